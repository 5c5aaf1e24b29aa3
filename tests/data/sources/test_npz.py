"""Arrays in a file: as np.savez or Keras has them."""

import numpy as np
import pytest

from ssl_jax.data import sources
from ssl_jax.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
LABELS = np.array([0, 1, 1, -1, 0, 1])


def load(path, **arrays):
    np.savez(path, **arrays)
    return sources.load("npz", data_dir=str(path))


def test_arrays_of_ones_own_and_keras_names(tmp_path):
    path = tmp_path / "own.npz"
    data = load(path, images=IMAGES, labels=LABELS, class_names=["cat", "dog"])
    assert data.images_NHWC.shape == (6, 4, 5, 1) and data.name == "own.npz"
    assert data.class_names == ("cat", "dog") and not len(data.test_labels_M)
    np.testing.assert_array_equal(data.labels_N, LABELS)
    column = LABELS.clip(0)[:, None]
    rgb = IMAGES[..., None].repeat(3, -1)
    data = load(path, x_train=rgb, y_train=column, x_test=rgb[:2], y_test=column[:2])
    assert data.images_NHWC.shape == (6, 4, 5, 3) and data.class_names == ("0", "1")
    np.testing.assert_array_equal(data.test_labels_M, [0, 1])
    with pytest.raises(UserError, match="image_size=8.*4x5"):
        sources.load("npz", data_dir=str(path), image_size=8)


@pytest.mark.parametrize(
    "arrays, said",
    [
        (dict(images=IMAGES), "lacks labels"),
        (dict(images=IMAGES / 255, labels=LABELS), "must be uint8"),
        (dict(images=IMAGES, labels=np.array(["a"] * 6, object)), "objects"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path, arrays, said):
    with pytest.raises(UserError, match=said):
        load(tmp_path / "own.npz", **arrays)


def test_a_file_that_is_no_archive(tmp_path):
    path = tmp_path / "own.npz"
    path.write_text("no arrays")
    for name in (path, tmp_path / "none.npz", tmp_path):
        with pytest.raises(UserError, match="cannot be read as arrays"):
            sources.load("npz", data_dir=str(name))
