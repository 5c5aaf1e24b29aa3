"""What a source finds, told whole: nothing is refused, and every file is looked at."""

from collections import Counter
from typing import NamedTuple

from ssl_jax.data.dataset import Dataset


class File(NamedTuple):
    """What an image file says of itself before its pixels are decoded."""

    name: str
    format: str  # Pillow's: "JPEG"
    mode: str  # Pillow's: "RGB", "L", "P", "I;16"
    grey: bool
    height: int  # as EXIF turns it
    width: int
    several: bool  # whether other frames follow the first
    nbytes: int


class Survey(NamedTuple):
    """A data set, and what hinders a run on it."""

    dataset: Dataset | None  # of all that can be read; None: nothing can
    test_names_M: tuple[str, ...] = ()  # as names_N, of the images to test on
    files: tuple[File, ...] = ()  # that can be opened; (): images are in no files
    unreadable: tuple[tuple[str, str], ...] = ()  # (name, reason) of every such image
    others: Counter = Counter()  # files that are no images, by suffix
    mistakes: tuple[str, ...] = ()  # for which `sources.read` refuses it
