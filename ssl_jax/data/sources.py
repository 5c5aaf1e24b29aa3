"""Where images come from: `load` a data set by name."""

from ssl_jax.data import digits, stl10, tfds_source
from ssl_jax.data.cache import Dataset


def load(
    name: str,
    *,
    data_dir: str = "",
    fold: int = -1,
    image_size: int = 0,
    extra: bool = False,
    digits_as: tuple[int, int, int, int] = (8, 8, 1, 10),
) -> Dataset:
    """The data set `name`: a training pool and a test set, uint8 images.

    Args:
      name: "digits", "stl10", or any image classification data set of TensorFlow
        Datasets, with or without config and version ("imagenette/160px:1.0.0").
      data_dir: the folder of tfds' data (or of STL-10's binary files); "": the
        environment's TFDS_DATA_DIR, else tfds' default.
      fold: >= 0 asks for predefined labeled sets, which only STL-10's binary files have
        (`split` checks the number).
      image_size: side in pixels to bring every image to; 0: leave them as they are.
      extra: whether the split "extra" (SVHN) joins the pool.
      digits_as: (H, W, C, K) in which "digits" is served (see `digits.load`).

    Raises:
      UserError: it cannot be found, prepared or read; the message says what to do.
    """
    if name == "digits":
        if image_size:
            digits_as = (image_size, image_size, *digits_as[2:])
        return digits.load(digits_as)
    if name.partition(":")[0] == "stl10":
        return stl10.load(name, data_dir, fold, image_size)
    return tfds_source.load(name, data_dir, image_size, extra)
