"""Every record of a split of TensorFlow Datasets, decodable or not."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from ssl_jax.data import progress
from ssl_jax.data.sources import one_image
from ssl_jax.data.sources.tfds_split import Split
from ssl_jax.data.survey import File


class Looked(NamedTuple):
    """A split's records, in its order."""

    files: list[File]  # that can be read
    unreadable: list[tuple[str, str]]  # (name, reason)
    order: np.ndarray  # the records that can be read
    labels_N: np.ndarray  # int32, theirs


def look(split: Split, decode: bool) -> Looked:
    """Args:
      decode: whether images are to be decoded, and not only opened.

    Raises:
      UserError: the file that records are in is damaged.
    """
    files, bad, order, labels = [], [], [], []
    numbers = iter(split.order.tolist())
    blocks = progress.shown(
        split.blocks(), len(split), f"looking at records of {split.name}", size=len
    )
    with ThreadPoolExecutor() as threads:  # Pillow decodes outside the GIL
        for rows in blocks:
            found = threads.map(partial(_form, decode=decode), rows)
            for row, form in zip(rows, found, strict=True):
                number = next(numbers)
                name, label = f"{split.name} record {number}", row["label"]
                if label not in split.labels_there_are:
                    form = f"its label {label} is outside the classes"
                if isinstance(form, str):
                    bad.append((name, form))
                    continue
                files.append(File(name, *form, len(row["image"])))
                order.append(number)
                labels.append(label)
    return Looked(files, bad, np.array(order, int), np.array(labels, np.int32))


def _form(row: dict, *, decode: bool) -> one_image.Form | str:
    """What an image is; or why it cannot be read."""
    try:
        with Image.open(io.BytesIO(row["image"])) as image:
            if decode:
                image.load()
            return one_image.form_of(image)
    except Exception as error:  # damaged ones make Pillow raise nearly anything
        return str(error) or type(error).__name__
