"""A folder of images as it lies there: every file, readable or not."""

import os
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ssl_jax.data import progress
from ssl_jax.data.sources import decoding, image_files, layout
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.data.streams import Images
from ssl_jax.data.survey import File
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

_SMALL = 8  # pixels a side, at which a file that is streamed is tried


def opened(
    root: str, names: Sequence[str], reading: Reading
) -> Iterator[File | Unreadable]:
    """What each of the files is, in order, from its header."""
    forms = image_files.forms(root, names, reading)
    forms = progress.shown(forms, len(names), "looking at images")
    for name, form in zip(names, forms, strict=True):
        if isinstance(form, Unreadable):
            yield form
        else:
            yield File(name, *form, os.path.getsize(os.path.join(root, name)))


def decoded(
    wanted: Wanted, files: layout.Files, seen: Sequence[File], reading: Reading
) -> tuple[decoding.Decoded | None, list[str]]:
    """(what can be read, why `folder.load` would refuse it).

    Where images are of several sizes and none is asked for, they are brought to the
    one that the refusal suggests. Of images that are streamed, those that can be
    opened and not decoded are found as well, which decodes all once.
    """
    pool = [*files.train.names, *files.validation.names]
    sizes = [wanted.image_size]
    if not wanted.image_size and len({(f.height, f.width) for f in seen}) > 1:
        sizes.append(decoding.suggested(seen))
    mistakes = []
    for size in sizes:
        read = partial(
            decoding.decoded,
            files.root,
            image_size=size,
            reading=reading,
            strict=False,
            placement=wanted.placement,
            workers=wanted.workers,
        )
        try:
            done = read(pool, files.test.names)
            if isinstance(done.dataset.images_NHWC, Images):
                done = _without_damaged(files.root, read, pool, files, reading, done)
        except UserError as error:
            mistakes.append(str(error))
            continue
        return done, mistakes
    return None, list(dict.fromkeys(mistakes))


def _without_damaged(root, read, pool, files, reading, done):
    bad = {image.name for image in done.unreadable}
    names = [name for name in (*pool, *files.test.names) if name not in bad]
    found = damaged(root, names, reading)
    if not found:
        return done
    bad |= {image.name for image in found}
    parts = ([n for n in part if n not in bad] for part in (pool, files.test.names))
    return read(*parts)._replace(unreadable=[*done.unreadable, *found])


def damaged(root: str, names: Sequence[str], reading: Reading) -> list[Unreadable]:
    """Those of the files that cannot be decoded."""
    tried = image_files.each(root, names, (_SMALL, _SMALL, 3), reading)
    tried = progress.shown(tried, len(names), "trying images")
    return [result for result in tried if isinstance(result, Unreadable)]


def unclassed(files: layout.Files, labels_N: np.ndarray) -> Iterator[str]:
    """Of each class none of whose images can be read, that it is so."""
    for label, class_name in enumerate(files.class_names):
        if not (labels_N == label).any():
            yield (
                f"none of the images of the class {class_name!r} can be read: replace "
                "them, or remove the class."
            )
