"""What is handed over becomes a pool: from arrays and from files, with any labels."""

import numpy as np
import pytest
from photos import fill, save

from ssl_jax.api import pools
from ssl_jax.data.sources.one_image import DEFAULT
from ssl_jax.errors import UserError

NAN = float("nan")


def test_labels():
    names, codes_N = pools._classes(np.array([3, -1, 1, 3]), 4)
    assert names == ("1", "3") and codes_N.tolist() == [1, -1, 0, 1]
    names, codes_N = pools._classes(["b", None, NAN, "a"], 4)
    assert names == ("a", "b") and codes_N.tolist() == [1, -1, -1, 0]
    assert pools._classes(None, 2)[1].tolist() == [-1, -1]
    for none in (-1, NAN, ""):
        with pytest.raises(UserError, match=f"'{none}' is no class: give None"):
            pools._classes(np.array(["a", none, "b"]), 3)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("photos", "images='photos' is no folder: give one, or a list"),
        (
            np.zeros((5, 4, 6), np.uint8),
            r"shape \(5, 4, 6\): .* grey ones x\[\.\.",
        ),
        (np.zeros((5, 24), np.uint8), r"shape \(5, 24\): give one \[images, height"),
    ],
)
def test_what_is_no_pool(images, said):
    labels = [0, 1, 0, 1, -1]
    with pytest.raises(UserError, match=said):
        pools.dataset(images, labels, None, 8, DEFAULT)
    with pytest.raises(UserError, match=said.replace("images=", "unlabeled=")):
        pools.dataset(np.zeros((5, 4, 6, 3), np.uint8), labels, images, 8, DEFAULT)


def test_arrays():
    images_NHWC = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    given = images_NHWC[:3], [0, 1, -1], images_NHWC[3:]
    dataset = pools.dataset(*given, 32, DEFAULT)
    np.testing.assert_array_equal(dataset.images_NHWC, images_NHWC)
    assert dataset.labels_N.tolist() == [0, 1, -1, -1, -1]
    assert dataset.labels_N.dtype == np.int32 and dataset.names_N == ()
    assert dataset.test_images_MHWC.shape == (0, 4, 6, 3)
    listed = pools.dataset(list(images_NHWC / 255), [0, 1, 1, 1, 1], None, 0, DEFAULT)
    np.testing.assert_array_equal(listed.images_NHWC, images_NHWC)
    grey = pools.dataset(list(images_NHWC[..., 0]), [0, 1, 1, 1, 1], None, 0, DEFAULT)
    np.testing.assert_array_equal(grey.images_NHWC, images_NHWC[..., :1])


def test_images_without_any_label():
    images_NHWC = np.zeros((5, 4, 6, 3), np.uint8)
    dataset = pools.dataset(images_NHWC, None, None, 0, DEFAULT, classless=True)
    assert dataset.class_names == () and dataset.labels_N.tolist() == [-1] * 5
    for labels, classless in [(None, False), ([7, 7, -1, -1, 7], True)]:
        with pytest.raises(UserError, match="label images of two or more"):
            pools.dataset(images_NHWC, labels, None, 0, DEFAULT, classless=classless)


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "a.png", "b.png")
    other = save(tmp_path / "c.png", 7)
    given = ["a.png", tmp_path / "b.png"], ["cat", "dog"], [str(tmp_path / "c.png")]
    dataset = pools.dataset(*given, 0, DEFAULT)
    assert dataset.names_N == tuple(str(tmp_path / f"{name}.png") for name in "abc")
    assert dataset.labels_N.tolist() == [0, 1, -1]
    np.testing.assert_array_equal(dataset.images_NHWC[2], other)
    assert pools.dataset(*given, 4, DEFAULT).images_NHWC.shape == (3, 4, 4, 3)
    assert pools.folder(tmp_path) == str(tmp_path) and not pools.folder("a.png")
    assert not pools.folder(["a.png"])
