"""What a run says of new images: a CSV file, for a folder of any number of them.

A row per image: its path below that folder, the class, the probability of every class
in a column of its own, p_<class>, and the reason why it has none, if it cannot be read.
"""

import csv
import os
from collections import Counter
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.data.sources import image_files
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.train import restored, sections
from ssl_jax.train.restored import Trained
from ssl_jax.workdir.files import expanded, replacing
from ssl_jax.workdir.workdir import Workdir

_HEADER = "path,label"  # the columns that every file of predictions begins with


class Row(NamedTuple):
    """An image of which something was to be said."""

    name: str
    probs_K: np.ndarray | None  # float32; None: it cannot be read
    reason: str = ""  # why not


class Judged(NamedTuple):
    """How many images are in a folder called by a class, and are said to be of it."""

    right: int
    known: int
    trained: int  # of those known: the run had their label


def write(config: Mapping[str, Any], path: Path) -> None:
    """Labels the images below `config.predict.dir`, or the image that it is, by the run
    in the workdir `path`, into the file `config.predict.out`; prints a summary.

    Without that field the file is predictions.csv in the workdir, or predictions_2.csv
    and so on, so that none is written over. Images that cannot be read are listed in
    the log too.

    Raises:
      UserError: there is no such folder or no image in it, one cannot be read under
        `config.data.strict`, the file cannot be written or is no such file, or the run
        is not trained to its end.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    root, names = find(wanted.predict.dir)
    written = out(wanted.predict.out, workdir)
    trained = restored.load(wanted, workdir)
    dataset, strict = trained.data.dataset, wanted.data.strict
    shape = dataset.images_NHWC.shape[1:]
    classifier = restored.classifier(trained)
    reading = Reading(wanted.data.white, wanted.data.max_pixels)
    rows = predicted(root, names, shape, classifier, reading, strict=strict)
    labels, unreadable = save(written, rows, dataset.class_names)
    image_files.report(unreadable, strict=False)
    told = judged(root, labels, dataset.class_names, _labeled(wanted.data, trained))
    counts = Counter(labels.values())
    print(summary(written, shape, dataset.class_names, counts, len(unreadable), told))


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


def out(given: str, workdir: Workdir) -> Path:
    """Where the predictions go. A file that is `given` is replaced, if it is one of
    predictions; without any a new one in the workdir.

    Raises:
      UserError: it is another file, or a folder.
    """
    if not given:
        return workdir.new_predictions()
    path = expanded(given)
    try:
        if path.exists():
            with path.open("rb") as file:
                if not file.readline().startswith(_HEADER.encode()):
                    raise UserError(
                        f"config.predict.out={given!r} is there, and holds no "
                        "predictions: give another name, or remove it."
                    )
    except OSError as error:
        raise UserError(
            f"config.predict.out={given!r} cannot be written ({error.strerror}): give "
            "the name of a file, such as predictions.csv."
        ) from error
    return path


def predicted(
    root: str,
    names: Sequence[str],
    shape: tuple[int, int, int],
    classifier: Callable[[np.ndarray], np.ndarray],
    reading: Reading,
    *,
    strict: bool,
) -> Iterator[Row]:
    """Of each image in turn, what is said of it.

    Args:
      shape: (H, W, C) that images are brought to.
      classifier: images_BHWC -> probs_BK.
      reading: as the run's own images were read.

    Raises:
      UserError: an image cannot be read, under `strict`.
    """
    begin = 0
    for good, images_BHWC, bad in image_files.decoded(root, names, shape, reading):
        image_files.report(bad if strict else (), strict=strict)
        probs_BK = classifier(images_BHWC) if good else ()
        rows = [Row(*pair) for pair in zip(good, probs_BK, strict=True)]
        rows += [Row(image.name, None, image.reason) for image in bad]
        of_name = {row.name: row for row in rows}
        end = begin + len(rows)
        yield from (of_name[name] for name in names[begin:end])
        begin = end


def save(
    path: Path, rows: Iterable[Row], class_names: Sequence[str]
) -> tuple[dict[str, str], list[Unreadable]]:
    """Writes the rows to `path`: ({image: its class}, those that cannot be read).

    A run that is stopped leaves the file as it was.

    Raises:
      UserError: no image could be read, or the file cannot be written.
    """
    labels, unreadable = {}, []
    # A name that is not UTF-8 is written as the bytes that it is.
    text = dict(newline="", encoding="utf-8", errors="surrogateescape")
    try:
        with replacing(path, **text) as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = [f"p_{name}" for name in class_names]
            writer.writerow([*_HEADER.split(","), *columns, "reason"])
            for name, probs_K, reason in rows:
                if probs_K is None:
                    unreadable.append(Unreadable(name, reason))
                    writer.writerow([name, "", *("" for _ in columns), reason])
                    continue
                labels[name] = class_names[int(probs_K.argmax())]
                said = [f"{p:.6f}" for p in probs_K]
                writer.writerow([name, labels[name], *said, ""])
            if not labels:
                first = unreadable[0]
                raise UserError(
                    f"of {len(unreadable):,} images none can be read ({first.name}: "
                    f"{first.reason}): give a folder with images that can."
                )
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): give another "
            "config.predict.out."
        ) from error
    return labels, unreadable


def judged(
    root: str,
    labels: Mapping[str, str],
    class_names: Sequence[str],
    trained: Container[str],
) -> Judged:
    """How often what is said is the name of the folder in `root` that an image lies in,
    where that is a class.

    Args:
      trained: paths of images that the run had the label of.
    """
    truth = {name: name.partition("/")[0] for name in labels if "/" in name}
    truth = {name: said for name, said in truth.items() if said in class_names}
    return Judged(
        right=sum(labels[name] == said for name, said in truth.items()),
        known=len(truth),
        trained=sum(
            os.path.realpath(os.path.join(root, name)) in trained for name in truth
        ),
    )


def _labeled(wanted: Wanted, trained: Trained) -> set[str]:
    """Paths of the images that the run had the label of."""
    names, root = trained.data.dataset.names_N, os.path.expanduser(wanted.dir)
    granted = [*trained.data.split.labeled, *trained.data.split.validation]
    return {os.path.realpath(os.path.join(root, names[i])) for i in granted if names}


def summary(
    path: Path,
    shape: tuple[int, int, int],
    class_names: Sequence[str],
    counts: Counter,
    num_unreadable: int,
    told: Judged,
) -> str:
    """What was done, over several lines."""
    height, width, channels = shape
    color = "grey" if channels == 1 else "RGB"
    lines = [
        f"{counts.total():,} images labeled, {num_unreadable:,} that cannot be read",
        f"brought to {width}x{height} {color}, as the run's own: the centre, resized",
        *(f"  {name}: {counts[name]:,}" for name in class_names),
    ]
    if told.known:
        right = (
            f"accuracy {told.right / told.known:.2%} on the {told.known:,} images in "
            "folders called by a class"
        )
        if told.trained:
            right += f", {told.trained:,} of which the run had the label of"
        lines.append(right)
    return "\n".join([*lines, str(path)])
