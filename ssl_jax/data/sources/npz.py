"""Arrays of your own in a file that `np.savez` wrote: --config.data.dir=FILE.npz.

It holds `images` [N, H, W, C] or [N, H, W], uint8, and `labels` [N], integers, -1 where
there is none; and if there are any `test_images`, `test_labels`, `class_names` and
`names` of the images to train on. Keras' x_train, y_train, x_test, y_test go as well.
"""

import zipfile
from pathlib import Path

import numpy as np

from ssl_jax.data.dataset import Dataset, of_arrays
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

_OTHERWISE = {
    "images": "x_train",
    "labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}

MAY_CHANGE = True  # it is the user's own


def serves(name: str) -> bool:
    return name == "npz"


def load(wanted: Wanted) -> Dataset:
    """The arrays in the file `wanted.dir`, as above.

    Raises:
      UserError: the file cannot be read or lacks an array, one is not as `of_arrays`
        takes it, or another image_size is asked for.
    """
    arrays = _read(wanted.dir)
    lacking = [name for name in ("images", "labels") if name not in arrays]
    if lacking:
        raise UserError(
            f"config.data.dir={wanted.dir!r} has the arrays {', '.join(arrays)}, and "
            f"lacks {' and '.join(lacking)}: np.savez(file, images=..., labels=...)."
        )
    images, test_images = arrays["images"], arrays.get("test_images")
    if test_images is not None:
        test_images = _four(test_images)
    dataset = of_arrays(
        _four(images),
        _flat(arrays["labels"]),
        test_images_MHWC=test_images,
        test_labels_M=_flat(arrays["test_labels"]) if "test_labels" in arrays else None,
        class_names=_texts(arrays, "class_names") or None,
        names_N=_texts(arrays, "names"),
        name=Path(wanted.dir).name,
    )
    size = wanted.image_size
    if size and dataset.images_NHWC.shape[1:3] != (size, size):
        height, width = dataset.images_NHWC.shape[1:3]
        raise UserError(
            f"config.data.image_size={size}, and the images of {wanted.dir} have "
            f"{height}x{width} pixels: set it to 0, and resize the arrays before."
        )
    return dataset


def _read(file: str) -> dict[str, np.ndarray]:
    try:
        with np.load(Path(file).expanduser(), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"config.data.dir={file!r} cannot be read as arrays ({error}): give a file "
            "that np.savez wrote, without objects in it."
        ) from error
    for name, other in _OTHERWISE.items():
        if name not in arrays and other in arrays:
            arrays[name] = arrays.pop(other)
    return arrays


def _four(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images


def _flat(labels: np.ndarray) -> np.ndarray:
    """Keras' CIFAR-10 has them as a column."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _texts(arrays: dict[str, np.ndarray], name: str) -> tuple[str, ...]:
    return tuple(map(str, arrays[name].tolist())) if name in arrays else ()
