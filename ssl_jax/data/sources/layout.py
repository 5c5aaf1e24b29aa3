"""Which file in a folder of images is what: see folder.py."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from ssl_jax.data import answers
from ssl_jax.data.sources import folder_names, image_files
from ssl_jax.errors import UserError

_SHOWN = 20  # names in a message


class Part(NamedTuple):
    """Images by name: the path below the data folder, where it is there, else the
    absolute one."""

    names: Sequence[str]
    labels: np.ndarray  # int32, -1 where there is none


class Files(NamedTuple):
    """What there is to read."""

    root: str  # the data folder
    class_names: tuple[str, ...]
    train: Part  # images in class folders before the others
    validation: Part
    test: Part
    others: Counter  # files that are no images, by suffix


class _Places(NamedTuple):
    """Folders, absolute; None where there is none."""

    classes: dict[str, str]  # class name -> its folder
    # whose own images have no label: the data folder, and `train`; none where all of
    # the data folder is `unlabeled`
    bases: list[str]
    unlabeled: str | None
    val: str | None
    test: str | None


def find(
    data_dir: str,
    unlabeled: str,
    labels: str,
    *,
    class_folders: bool = True,
    gone: bool = False,
) -> Files:
    """The images below `data_dir`; the others as in `folder.load`, `gone` as in
    `answers.read`.

    Raises:
      UserError: there are none, fewer than two classes, or something out of place.
    """
    root = os.path.abspath(os.path.expanduser(data_dir))
    if not data_dir or not os.path.isdir(root):
        raise UserError(
            f"config.data.dir={data_dir!r} is no folder: give the one that holds "
            f"{'a folder of images per class' if class_folders else 'the images'}."
        )
    others = Counter()
    if class_folders:
        places = _places(root, unlabeled, others)
    else:
        places = _one_pile(root, unlabeled)
    class_names, train = _to_train_on(root, places, labels, gone, others)
    trained = [*places.classes.values(), places.unlabeled]
    validation, test = (
        _held_out(place, kind, class_names, root, [*trained, other], others)
        for place, kind, other in (
            (places.val, "validation", places.test),
            (places.test, "test", places.val),
        )
    )
    return Files(root, class_names, train, validation, test, others)


def _to_train_on(
    root: str, places: _Places, labels: str, gone: bool, others: Counter
) -> tuple[tuple[str, ...], Part]:
    """(class names, images); counts what else is there in `others`."""
    held_out, paths = (places.val, places.test), []
    for folder in places.bases:
        paths += [path for path in _listed(folder) if not os.path.isdir(path)]
    if places.unlabeled:
        labeled = places.classes.values()
        paths += image_files.find(places.unlabeled, [*held_out, *labeled])
    found, rest = image_files.images(paths)
    others.update(rest)
    loose = [image_files.name_below(root, path) for path in found]
    if places.classes:
        class_names, base = tuple(places.classes), places.bases[-1]
        _check_names(places.classes, base)
        named = _in_folders(places.classes, class_names, root, held_out, others)
        labels_N = np.pad(named.labels, (0, len(loose)), constant_values=-1)
        train = Part([*named.names, *loose], labels_N)
    elif not loose:
        what = "a folder of images per class" if places.bases else "the images"
        raise UserError(
            f"there is no image in {root}{_only(others)}: give the folder that holds "
            f"{what}, as config.data.dir."
        )
    elif not (places.bases or labels):
        return (), Part(loose, np.full(len(loose), -1, np.int32))
    else:
        class_names, labels_N = _by_csv(root, labels, loose, gone)
        train = Part(loose, labels_N)
    if len(class_names) < 2:
        where = f"the class folders in {base}" if places.classes else labels
        raise UserError(
            f"there is one class only, {class_names[0]!r}, by {where}: name two or "
            "more. (Class folders lie in config.data.dir itself, or in its folder "
            "train.)"
        )
    return class_names, train


def _check_names(classes: dict[str, str], base: str) -> None:
    folder_names.check_classes(list(classes), base)
    for name, path in classes.items():
        beside = [other for other in classes if other != name]
        folder_names.check_inside(name, list(_folders(path, Counter())), beside)


def _places(root: str, unlabeled: str, others: Counter) -> _Places:
    """Which folder is what; counts those of systems in `others`.

    Raises:
      UserError: one cannot be what its name says, or two are one.
    """
    classes, sets = _classes_and_sets(root, others)
    bases, own = [root], [sets["unlabeled"]] if "unlabeled" in sets else []
    beside = {}
    if "train" in sets:
        beside, bases = classes, [root, sets["train"]]
        classes, inside = _classes_and_sets(sets["train"], others)
        own += [inside.pop("unlabeled")] if "unlabeled" in inside else []
        for path in inside.values():
            raise UserError(
                f"{path} is a set of images within another one: move it out of "
                f"{sets['train']}, or, if it is a class, rename it."
            )
    pile = _pile(root, bases, unlabeled, own)
    classes = {name: path for name, path in classes.items() if path != pile}
    left = [name for name, path in beside.items() if path != pile]
    folder_names.check_unlabeled([*classes, *left], root)
    if left:
        raise UserError(
            f"{sets['train']} is where the class folders to train on lie, and beside "
            f"it are {', '.join(map(repr, left[:_SHOWN]))}: move these into it. If "
            f"{os.path.basename(sets['train'])!r} is a class itself, rename it."
        )
    held_out = sets.get("val"), sets.get("test")
    _check_apart(root, [*classes.values(), pile, *held_out])
    return _Places(classes, bases, pile, *held_out)


def _one_pile(root: str, unlabeled: str) -> _Places:
    """Of a folder whose folders say nothing."""
    if unlabeled not in ("unlabeled", ""):
        raise UserError(
            f"config.data.unlabeled={unlabeled!r}, and with "
            f"config.data.class_folders=False all of {root} is without a label: put "
            "all images into one folder, and leave config.data.unlabeled as it is."
        )
    return _Places({}, [], root, None, None)


def _classes_and_sets(
    parent: str, others: Counter
) -> tuple[dict[str, str], dict[str, str]]:
    """Paths of the folders in `parent`: by class, and by set."""
    folders = _folders(parent, others)
    names = folder_names.sets(parent, list(folders))
    return folders, {meant: folders.pop(name) for meant, name in names.items()}


def _folders(parent: str, others: Counter) -> dict[str, str]:
    """name -> path of the folders in `parent` but for those of systems."""
    found = {}
    for path in filter(os.path.isdir, _listed(parent)):
        name = os.path.basename(path)
        if folder_names.system(name):
            others[f"{name}/"] += 1
        else:
            found[name] = path
    return found


def _listed(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in image_files.listed(folder)]


def _check_apart(root: str, places: Sequence[str | None]) -> None:
    """Raises UserError where one of `places` is a link to another, or to what all lie
    in."""
    first = {}
    for place in filter(None, places):
        real = os.path.realpath(place)
        if os.path.commonpath([os.path.realpath(root), real]) == real:
            raise UserError(
                f"{place} is a link to {real}, in which all images lie: remove it."
            )
        if real in first:
            raise UserError(
                f"{first[real]} and {place} are one folder, {real}: remove a link."
            )
        first[real] = place


def _pile(root: str, bases: list[str], unlabeled: str, own: list[str]) -> str | None:
    """The folder of images without labels, absolute, if there is one.

    Args:
      own: those called `unlabeled`, which are left out where another one is wanted.
    """
    if unlabeled == "unlabeled":
        if len(own) > 1:
            raise UserError(
                f"{own[0]} and {own[1]} are both without labels: put all into one."
            )
        return own[0] if own else None
    pile = None
    if unlabeled:
        pile = _elsewhere(root, bases, unlabeled)
    for left_out in own:
        if left_out != pile:
            logging.warning(
                "left out %s: config.data.unlabeled=%r.", left_out, unlabeled
            )
    return pile


def _elsewhere(root: str, bases: list[str], unlabeled: str) -> str:
    given = os.path.expanduser(unlabeled)
    places = [os.path.normpath(os.path.join(root, given))]
    if os.path.dirname(given):  # a plain name means one in the data folder only
        places.append(os.path.abspath(given))
    pile = next((place for place in places if os.path.isdir(place)), None)
    if pile is None:
        raise UserError(
            f"config.data.unlabeled={unlabeled!r} is no folder ({places[0]}): give one "
            "in config.data.dir or a path elsewhere, or '' for none."
        )
    here, there = os.path.realpath(root), os.path.realpath(pile)
    inside = pile.startswith(root + os.sep)
    meant = folder_names.sets(root, [os.path.basename(pile)])
    if (
        os.path.commonpath([here, there]) == there
        or (inside and os.path.dirname(pile) not in bases)
        or (inside and meant.keys() - {"unlabeled"})
    ):
        raise UserError(
            f"config.data.unlabeled={unlabeled!r} shares images with the class folders "
            f"or the test set in {root}: give a folder beside the class folders, or "
            "elsewhere. (Images in config.data.dir itself are unlabeled without it.)"
        )
    return pile


def _in_folders(
    folders: dict[str, str],
    class_names: Sequence[str],
    root: str,
    apart: Sequence[str | None],
    others: Counter,
) -> Part:
    """The images in the folders of these classes, none by a link into `apart` or into
    another one of them; counts what else is there in `others`."""
    names, labels = [], []
    for class_name, path in folders.items():
        beside = [other for other in folders.values() if other != path]
        found, rest = image_files.images(image_files.find(path, [*apart, *beside]))
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
        "columns image and label, config.data.labels. (configs/byol_folder.py learns "
        "from images without any label, and asks which to label.)"
    )
    if not labels:
        raise UserError(f"there are no class folders in {root}: {remedy}")
    rows, wrong = answers.lines(Path(labels))
    count_of = Counter(row.label for row in rows if row.label)
    if not count_of and not wrong:  # which `answers.match` tells of
        raise UserError(
            f"there are no class folders in {root}, and {labels} has no label: {remedy}"
        )
    class_names = tuple(sorted(count_of, key=image_files.natural))
    folder_names.check_classes(class_names, labels)
    shown = ", ".join(f"{name} ({count_of[name]:,})" for name in class_names)
    logging.warning("the classes are those that %s names: %s", labels, shown)
    others = [name for name, count in count_of.items() if count > 1]
    for row in rows:
        if count_of[row.label] == 1 and (like := get_close_matches(row.label, others)):
            logging.warning(
                "%s line %d is the only image of the class %r: was %r meant?",
                *(labels, row.line, row.label, like[0]),
            )
    given = answers.match(
        Path(labels), rows, names_N, class_names, root=root, gone=gone, wrong=wrong
    )
    labels_N = np.full(len(names_N), -1, np.int32)
    labels_N[given.index_n] = given.label_n
    return class_names, labels_N


def _held_out(
    place: str | None,
    kind: str,
    class_names: tuple[str, ...],
    root: str,
    apart: Sequence[str | None],
    others: Counter,
) -> Part:
    """The test set, or the one to validate on; empty where there is no such folder."""
    if place is None:
        return Part([], np.zeros(0, np.int32))
    # The other Unicode form of a class's name, as another system writes it, is it too.
    class_of = {unicodedata.normalize("NFC", name): name for name in class_names}
    folders = {}
    for name, path in _folders(place, others).items():
        class_name = class_of.get(unicodedata.normalize("NFC", name))
        if class_name is None:
            raise UserError(
                f"the {kind} class {path} is not among the {len(class_names)} classes "
                f"to train on ({', '.join(class_names[:_SHOWN])}): rename or remove it."
            )
        if class_name in folders:
            raise UserError(
                f"{path} and {folders[class_name]} are one class in two Unicode forms: "
                "put all into one."
            )
        folders[class_name] = path
    loose = [path for path in _listed(place) if not os.path.isdir(path)]
    found, rest = image_files.images(loose)
    if found:
        raise UserError(
            f"{found[0]} is a {kind} image without a class: move it to a folder of "
            f"its class in {place}, or out of there. (If {os.path.basename(place)!r} "
            "is a class, rename it.)"
        )
    others.update(rest)
    return _in_folders(folders, class_names, root, apart, others)


def _only(others: Counter) -> str:
    return f", only {image_files.suffixes(others)}" if others else ""
