"""Where images come from: `load` a data set by name."""

from ml_collections import ConfigDict

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources import digits, folder, stl10, tfds_source


def load(
    name: str,
    *,
    data_dir: str = "",
    fold: int = -1,
    image_size: int = 0,
    extra: bool = False,
    digits_as: tuple[int, int, int, int] = (8, 8, 1, 10),
    unlabeled: str = "unlabeled",
    strict: bool = False,
    labels: str = "",
) -> Dataset:
    """The data set `name`: a training pool and a test set, uint8 images.

    Args:
      name: "digits", "digits_tutorial" (`digits.load_tutorial`), "stl10", "folder"
        (folder.py), or any image classification data set of TensorFlow Datasets, with
        or without config and version ("imagenette/160px:1.0.0").
      data_dir: the folder of tfds' data (or of STL-10's binary files); "": the
        environment's TFDS_DATA_DIR, else tfds' default.
      fold: >= 0 asks for predefined labeled sets, which only STL-10's binary files have
        (`split` checks the number).
      image_size: side in pixels to bring every image to; 0: leave them as they are.
      extra: whether the split "extra" (SVHN) joins the pool.
      digits_as: (H, W, C, K) in which "digits" is served (see `digits.load`).
      unlabeled, strict, labels: of "folder" (see `folder.load`).

    Raises:
      UserError: it cannot be found, prepared or read; the message says what to do.
    """
    if name == "digits":
        if image_size:
            digits_as = (image_size, image_size, *digits_as[2:])
        return digits.load(digits_as)
    if name == "digits_tutorial":
        return digits.load_tutorial()
    if name == "folder":
        return folder.load(
            data_dir,
            image_size=image_size,
            unlabeled=unlabeled,
            strict=strict,
            labels=labels,
        )
    if name.partition(":")[0] == "stl10":
        return stl10.load(name, data_dir, fold, image_size)
    return tfds_source.load(name, data_dir, image_size, extra)


def of_config(data: ConfigDict) -> Dataset:
    """What the section `data` of a config names.

    Raises:
      UserError: as `load`.
    """
    return load(
        data.name,
        data_dir=data.dir,
        fold=data.fold,
        image_size=data.image_size,
        extra=data.extra,
        digits_as=data.digits_as,
        unlabeled=data.unlabeled,
        strict=data.strict,
        labels=data.labels,
    )
