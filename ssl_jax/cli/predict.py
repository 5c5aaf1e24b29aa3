"""What a run says of new images: a CSV file, for a folder of any number of them.

A row per image: its path below that folder, the class, the probability of every class
in a column of its own, p_<class>, and the reason why it has none, if it cannot be read.
"""

import csv
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jax.cli import new_images
from ssl_jax.cli.new_images import Row
from ssl_jax.data.sources import image_files
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.wanted import Wanted
from ssl_jax.train import classifier, sections
from ssl_jax.workdir.files import replacing
from ssl_jax.workdir.workdir import Workdir

_HEADER = "path,label"  # the columns that every file of predictions begins with


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
    root, names = new_images.find(wanted.predict.dir)
    given, written = wanted.predict.out, workdir.new_file("predictions", ".csv")
    if given:
        written = new_images.out(given, "predictions", _is_such)
    asked = classifier.of_run(wanted, workdir)
    rows = new_images.said(root, names, asked, "predict", strict=wanted.data.strict)
    labels, unreadable = save(written, rows, asked.class_names)
    image_files.report(unreadable, strict=False)
    known = _labeled(wanted.data, workdir)
    told = judged(root, labels, asked.class_names, known)
    counts = Counter(labels.values())
    print(
        summary(written, asked.shape, asked.class_names, counts, len(unreadable), told)
    )


def _is_such(path):
    with path.open("rb") as file:
        return file.readline().startswith(_HEADER.encode())


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
                raise new_images.none_read(unreadable[0], len(unreadable))
    except OSError as error:
        raise new_images.not_written(path, error) from error
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


def _labeled(wanted: Wanted, workdir: Workdir) -> set[str]:
    """Paths of the images that the run had the label of, where its folder was."""
    data, root = workdir.began_with, os.path.expanduser(wanted.dir)
    granted = () if data is None else (*data.labeled, *data.validation)
    return {os.path.realpath(os.path.join(root, name)) for name in granted}


def summary(
    path: Path,
    shape: tuple[int, int, int],
    class_names: Sequence[str],
    counts: Counter,
    num_unreadable: int,
    told: Judged,
) -> str:
    """What was done, over several lines."""
    lines = [
        f"{counts.total():,} images labeled, {num_unreadable:,} that cannot be read",
        new_images.form(shape),
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
