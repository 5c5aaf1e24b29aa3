"""A folder of images as a data set.

    photos/cat/*.jpg, photos/dog/*.jpg    a folder per class, searched to any depth
    photos/unlabeled/**                   images without a label; or any other folder
    photos/test/cat/*.jpg, ...            optional: the test set
    photos/val/cat/*.jpg, ...             optional: images to validate on

or `photos/train` in place of the class folders, as torchvision has it. Images that lie
in `photos` itself have no label either. Where there is no class folder, the classes are
those that a CSV file names (see `answers`), and its labels count.

With class_folders=False no folder is a class or a set, and every image at any depth is
one without a label; without that CSV file there are then no classes at all.
"""

import os
from collections.abc import Sequence

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources import (
    decoding,
    folder_survey,
    image_files,
    layout,
    one_image,
)
from ssl_jax.data.sources.decoding import Decoded
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.data.survey import File, Survey
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

_LOOKED_AT = 512  # pixels: the longer side of what is shown to people

MAY_CHANGE = True  # it is the user's own
STREAMS = True


def serves(name: str) -> bool:
    return name == "folder"


def load(wanted: Wanted) -> Dataset:
    """The images below `wanted.dir`, as above, in natural order of their names: those
    in class folders, then the others, then those to validate on.

    Images that cannot be decoded are listed in the log and left out. All have one
    channel if all files are grey, else three (`one_image.decode` says how they are
    brought to one form). names_N are paths relative to `wanted.dir` where they lie in
    it, else absolute ones.

    Of `wanted`:
      image_size: side in pixels that every image is cropped (to a centred square) and
        resized to; 0: as they are, all of one size.
      unlabeled: a folder in `dir` or a path elsewhere; the default need not exist.
      class_folders: False: whatever folders images lie in says nothing of them.
      strict: refuse images that cannot be decoded.
      placement: "stream", or "auto" where they are many (`placement.streams`): images
        stay in their files. One that can be opened and not decoded is then found when
        it is read, and ends the run, strict or not.
      white, max_pixels: how files are read (`one_image.Reading`).
      labels: a CSV file that gives the classes where there are no class folders; not
        looked at where there are.

    Raises:
      UserError: a folder or image is missing or out of place, there are fewer than two
        classes (but for none at all, as above), a class has no image that can be read,
        images differ in size and image_size=0, a line of the CSV file cannot be taken,
        or `strict`.
    """
    files = _find(wanted)
    image_files.report_others(files.others)
    done = decoding.decoded(
        files.root,
        [*files.train.names, *files.validation.names],
        files.test.names,
        wanted.image_size,
        _reading(wanted),
        wanted.strict,
        wanted.placement,
        wanted.workers,
    )
    image_files.report(done.unreadable, strict=wanted.strict)
    image_files.report_pixels(done.several, done.brightest_N, wanted.white)
    train, *_ = _readable(files, done.unreadable)
    _check_classes(files, train, done.unreadable)
    return _dataset(files, done)


def survey(wanted: Wanted) -> Survey:
    """What `load` gives, with every file; where that refuses for what the files hold,
    the images that can be read.

    Raises:
      UserError: a folder or image is missing or out of place, or a line of the CSV file
        cannot be taken.
    """
    files, reading = _find(wanted), _reading(wanted)
    names = [n for part in (files.train, files.validation, files.test) for n in part[0]]
    looked = list(folder_survey.opened(files.root, names, reading))
    seen = [file for file in looked if isinstance(file, File)]
    bad = [image for image in looked if isinstance(image, Unreadable)]
    done, mistakes = folder_survey.decoded(wanted, files, seen, reading)
    dataset, test_names = None, ()
    if done is None:
        bad += folder_survey.damaged(files.root, [f.name for f in seen], reading)
    else:
        image_files.report_pixels(done.several, done.brightest_N, wanted.white)
        bad, dataset = done.unreadable, _dataset(files, done)
        test_names = tuple(_readable(files, bad)[2].names)
        mistakes += folder_survey.unclassed(files, dataset.labels_N)
    if wanted.strict and bad:
        mistakes.append(
            f"config.data.strict=True, and {len(bad):,} images cannot be read: replace "
            "or remove them, or set config.data.strict=False to skip such images."
        )
    return Survey(
        dataset=dataset,
        test_names_M=test_names,
        files=tuple(seen),
        unreadable=tuple((image.name, image.reason) for image in bad),
        others=files.others,
        mistakes=tuple(mistakes),
    )


def _find(wanted: Wanted) -> layout.Files:
    return layout.find(
        wanted.dir,
        wanted.unlabeled,
        wanted.labels,
        class_folders=wanted.class_folders,
        gone=wanted.changed == "accept",
    )


def _readable(
    files: layout.Files, bad: Sequence[Unreadable]
) -> tuple[layout.Part, layout.Part, layout.Part]:
    """What can be read to train on, to validate and to test."""
    parts = files.train, files.validation, files.test
    return tuple(_without(part, bad) for part in parts)


def _dataset(files: layout.Files, done: Decoded) -> Dataset:
    train, validation, test = _readable(files, done.unreadable)
    return done.dataset._replace(
        labels_N=np.concatenate([train.labels, validation.labels]),
        test_labels_M=test.labels,
        class_names=files.class_names,
        names_N=(*train.names, *validation.names),
        root=files.root,
        num_held_out=len(validation.names),
        unreadable=frozenset(image.name for image in done.unreadable),
        sizes=done.sizes,
    )


def original(wanted: Wanted, name: str) -> np.ndarray:
    """image_HWC of the file that names_N calls `name`, whole and at its resolution, up
    to what a figure shows. Raises what Pillow raises."""
    path = os.path.join(os.path.expanduser(wanted.dir), name)
    reading = _reading(wanted)
    grey, height, width = one_image.header(path, True, reading)
    scale = min(1, _LOOKED_AT / max(height, width))
    shape = max(1, round(scale * height)), max(1, round(scale * width))
    return one_image.decode(path, (*shape, 1 if grey else 3), reading).image_HWC


def _reading(wanted: Wanted) -> Reading:
    return Reading(wanted.white, wanted.max_pixels)


def _without(part: layout.Part, bad: Sequence[Unreadable]) -> layout.Part:
    """What is left of it."""
    left_out = {image.name for image in bad}
    rows = [row for row, name in enumerate(part.names) if name not in left_out]
    return layout.Part([part.names[row] for row in rows], part.labels[rows])


def _check_classes(
    files: layout.Files, readable: layout.Part, bad: Sequence[Unreadable]
) -> None:
    """Raises UserError where no image of a class can be read."""
    for label, class_name in enumerate(files.class_names):
        if (readable.labels == label).any():
            continue
        (rows,) = np.nonzero(files.train.labels == label)
        here = {files.train.names[row] for row in rows}
        first = next(image for image in bad if image.name in here)
        raise UserError(
            f"none of the {len(here):,} images of the class {class_name!r} can be read "
            f"({first.name}: {first.reason}): replace them, or remove the class."
        )
