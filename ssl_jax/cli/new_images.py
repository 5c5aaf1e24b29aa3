"""New images that a run, or a file's encoder, is asked about by the command line: where
they lie, where the answer goes, and what is said of each."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.data.sources import image_files
from ssl_jax.errors import UserError
from ssl_jax.train.classifier import Classifier
from ssl_jax.train.encoders import Encoder
from ssl_jax.workdir.files import expanded

AS_THE_RUNS = "as the run's own: the centre, resized"


class Row(NamedTuple):
    """An image of which something was to be said."""

    name: str
    said: np.ndarray | None  # float32; None: it cannot be read
    reason: str = ""  # why not


def find(predict_dir: str) -> tuple[str, list[str]]:
    """(folder, names of the images below it, in natural order); of a file, the folder
    that it lies in, and its name.

    Raises:
      UserError: there is no such folder, or no image in it.
    """
    root = os.path.abspath(os.path.expanduser(predict_dir))
    if not predict_dir or not os.path.exists(root):
        raise UserError(
            f"config.predict.dir={predict_dir!r} is no folder and no file: give the "
            "folder with the images to label, as in --config.predict.dir=new_images, "
            "or one image."
        )
    one = not os.path.isdir(root)
    found, others = image_files.images([root] if one else image_files.find(root))
    if not one:
        image_files.report_others(others)
    if not found:
        only = f", only {image_files.suffixes(others)}" if others else ""
        raise UserError(
            f"there is no image below config.predict.dir={predict_dir!r}{only}: give "
            "a folder with images, or one."
        )
    root = os.path.dirname(root) if one else root
    return root, [image_files.name_below(root, path) for path in found]


def out(given: str, what: str, is_such: Callable[[Path], bool]) -> Path:
    """The file that config.predict.out gives. One that is there is replaced, if it is
    one of those.

    Args:
      what: it is to hold, such as "predictions"; is_such: whether a file does.

    Raises:
      UserError: it is another file, or a folder.
    """
    path = expanded(given)
    try:
        if path.exists() and not is_such(path):
            raise UserError(
                f"config.predict.out={given!r} is there, and holds no {what}: give "
                "another name, or remove it."
            )
    except OSError as error:
        raise UserError(
            f"config.predict.out={given!r} cannot be written ({error.strerror}): give "
            "the name of a file."
        ) from error
    return path


def not_written(path: Path, error: OSError) -> UserError:
    """What to raise where a file cannot be written."""
    return UserError(
        f"{path} cannot be written ({error.strerror}): give the name of another file "
        "by config.predict.out."
    )


def said(
    root: str,
    names: Sequence[str],
    classifier: Classifier | Encoder,
    what: str,
    *,
    strict: bool,
) -> Iterator[Row]:
    """Of each image in turn, what is said of it.

    Args:
      what: as in `Classifier.asked`, which says whether there is such.

    Raises:
      UserError: an image cannot be read, under `strict`.
    """
    of_images = classifier.asked(what)
    decoded = image_files.decoded(root, names, classifier.shape, classifier.reading)
    begin = 0
    for good, images_BHWC, bad in decoded:
        image_files.report(bad if strict else (), strict=strict)
        said_BK = of_images(images_BHWC) if good else ()
        rows = [Row(*pair) for pair in zip(good, said_BK, strict=True)]
        rows += [Row(image.name, None, image.reason) for image in bad]
        of_name = {row.name: row for row in rows}
        end = begin + len(rows)
        yield from (of_name[name] for name in names[begin:end])
        begin = end


def none_read(first: Row, count: int) -> UserError:
    """What to raise where of so many images none could be read."""
    return UserError(
        f"of {count:,} images none can be read ({first.name}: {first.reason}): give a "
        "folder with images that can."
    )


def form(shape: tuple[int, int, int], how: str = AS_THE_RUNS) -> str:
    """What images are brought to, for people."""
    height, width, channels = shape
    color = "grey" if channels == 1 else "RGB"
    return f"brought to {width}x{height} {color}, {how}"
