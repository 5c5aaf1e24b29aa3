"""Which file in a folder of images is what: see folder.py."""

import os
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from ssl_jax.data import answers
from ssl_jax.data.sources import image_files
from ssl_jax.errors import UserError

_TEST = "test"


class Part(NamedTuple):
    """Images by name: the path below the data folder, where it is there, else the
    absolute one."""

    names: Sequence[str]
    labels: np.ndarray  # int32, -1 where there is none


class Files(NamedTuple):
    """What there is to read."""

    root: str  # the data folder
    class_names: tuple[str, ...]
    pool: Part  # images in class folders before the others
    test: Part
    others: Counter  # files that are no images, by suffix


def find(data_dir: str, unlabeled: str, labels: str, *, gone: bool = False) -> Files:
    """The images below `data_dir`; the others as in `folder.load`, `gone` as in
    `answers.read`.

    Raises:
      UserError: there are none, fewer than two classes, or something out of place.
    """
    root = os.path.abspath(os.path.expanduser(data_dir))
    if not data_dir or not os.path.isdir(root):
        raise UserError(
            f"config.data.dir={data_dir!r} is no folder: give the one that holds a "
            "folder of images per class."
        )
    pile = _pile(root, unlabeled)
    top = [os.path.join(root, name) for name in image_files.listed(root)]
    folders = [path for path in top if os.path.isdir(path)]
    loose = [path for path in top if not os.path.isdir(path)]
    if pile:
        loose += image_files.find(pile)
    found, others = image_files.images(loose)
    loose = [image_files.name_below(root, path) for path in found]
    apart = (pile, os.path.join(root, _TEST))
    of_class = {os.path.basename(path): path for path in folders if path not in apart}
    if of_class:
        class_names = tuple(of_class)
        names, labels_n = _in_folders(of_class, class_names, root, others)
        labels_N = np.pad(labels_n, (0, len(loose)), constant_values=-1)
        pool = Part(names + loose, labels_N)
    elif loose:
        class_names, labels_N = _by_csv(root, labels, loose, gone)
        pool = Part(loose, labels_N)
    else:
        raise UserError(
            f"there is no image in {root}{_only(others)}: give the folder that holds a "
            "folder of images per class, as config.data.dir."
        )
    if len(class_names) < 2:
        where = f"the class folders in {root}" if of_class else labels
        raise UserError(
            f"there is one class only, {class_names[0]!r}, by {where}: name two or "
            "more. (Class folders lie in config.data.dir itself.)"
        )
    test = _test(root, class_names, others)
    return Files(root, class_names, pool, test, others)


def _pile(root: str, unlabeled: str) -> str | None:
    """The folder of images without labels, absolute, if there is one."""
    if not unlabeled:
        return None
    given = os.path.expanduser(unlabeled)
    places = [os.path.normpath(os.path.join(root, given))]
    if os.path.dirname(given):  # a plain name means one in the data folder only
        places.append(os.path.abspath(given))
    pile = next((place for place in places if os.path.isdir(place)), None)
    if pile is None:
        if unlabeled == "unlabeled":
            return None
        raise UserError(
            f"config.data.unlabeled={unlabeled!r} is no folder ({places[0]}): give one "
            "in config.data.dir or a path elsewhere, or '' for none."
        )
    here, there = os.path.realpath(root), os.path.realpath(pile)
    inside = pile.startswith(root + os.sep)
    if (
        os.path.commonpath([here, there]) == there
        or (inside and os.path.dirname(pile) != root)
        or pile == os.path.join(root, _TEST)
    ):
        raise UserError(
            f"config.data.unlabeled={unlabeled!r} shares images with the class folders "
            f"or the test set in {root}: give a folder beside the class folders, or "
            "elsewhere. (Images in config.data.dir itself are unlabeled without it.)"
        )
    return pile


def _in_folders(
    folders: dict[str, str], class_names: Sequence[str], root: str, others: Counter
) -> Part:
    """The images in the folders of these classes; counts what else is there in
    `others`."""
    names, labels = [], []
    for class_name, path in folders.items():
        found, rest = image_files.images(image_files.find(path))
        if not found:
            raise UserError(
                f"the class folder {path} holds no image{_only(rest)}: put some there, "
                "or remove the folder."
            )
        others.update(rest)
        names += [image_files.name_below(root, path) for path in found]
        labels += [class_names.index(class_name)] * len(found)
    return Part(names, np.asarray(labels, np.int32))


def _by_csv(
    root: str, labels: str, names_N: list[str], gone: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names, labels_N) as the file `labels` says."""
    remedy = (
        "make one per class and put images there, or name some in a CSV file with the "
        "columns image and label, config.data.labels."
    )
    if not labels:
        raise UserError(f"there are no class folders in {root}: {remedy}")
    rows = answers.rows(Path(labels))
    count_of = Counter(row.label for row in rows if row.label)
    if not count_of:
        raise UserError(
            f"there are no class folders in {root}, and {labels} has no label: {remedy}"
        )
    class_names = tuple(sorted(count_of, key=image_files.natural))
    shown = ", ".join(f"{name} ({count_of[name]:,})" for name in class_names)
    logging.warning("the classes are those that %s names: %s", labels, shown)
    others = [name for name, count in count_of.items() if count > 1]
    for row in rows:
        if count_of[row.label] == 1 and (like := get_close_matches(row.label, others)):
            logging.warning(
                "%s line %d is the only image of the class %r: was %r meant?",
                *(labels, row.line, row.label, like[0]),
            )
    given = answers.match(Path(labels), rows, names_N, class_names, gone=gone)
    labels_N = np.full(len(names_N), -1, np.int32)
    labels_N[given.index_n] = given.label_n
    return class_names, labels_N


def _test(root: str, class_names: tuple[str, ...], others: Counter) -> Part:
    """The test set; empty where there is no such folder."""
    place = os.path.join(root, _TEST)
    if not os.path.isdir(place):
        return Part([], np.zeros(0, np.int32))
    folders, loose = {}, []
    for name in image_files.listed(place):
        path = os.path.join(place, name)
        if not os.path.isdir(path):
            loose.append(path)
        elif name in class_names:
            folders[name] = path
        else:
            raise UserError(
                f"the test class {path} is not among the {len(class_names)} classes to "
                f"train on ({', '.join(class_names[:20])}): rename or remove it."
            )
    found, rest = image_files.images(loose)
    if found:
        raise UserError(
            f"{found[0]} is a test image without a class: move it to a folder of its "
            f"class in {place}, or out of there."
        )
    others.update(rest)
    return _in_folders(folders, class_names, root, others)


def _only(others: Counter) -> str:
    return f", only {image_files.suffixes(others)}" if others else ""
