"""What a run says of new images: predictions.csv, for a folder of any number of them.

A row per image: its path below that folder, the class, and the probability of every
class in a column of its own, p_<class>.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.data.sources import image_files
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.errors import UserError
from ssl_jax.train import restored, sections
from ssl_jax.workdir.files import replacing
from ssl_jax.workdir.workdir import Workdir


def write(config: Mapping[str, Any], path: Path) -> None:
    """Labels the images below `config.predict.dir` by the run in the workdir `path`,
    into predictions.csv there, and prints a summary.

    Images that cannot be read are listed in the log and left out.

    Raises:
      UserError: there is no such folder or no image in it, one cannot be read under
        `config.data.strict`, or the run is not trained to its end.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    root, names = find(wanted.predict.dir)
    trained = restored.load(wanted, workdir)
    dataset, strict = trained.data.dataset, wanted.data.strict
    shape = dataset.images_NHWC.shape[1:]
    classifier = restored.classifier(trained)
    blocks = predicted(root, names, shape, classifier, strict=strict)
    written = workdir.predictions
    counts, unreadable = save(written, blocks, dataset.class_names)
    image_files.report(unreadable, strict=False)
    print(summary(written, shape, dataset.class_names, counts, len(unreadable)))


def find(predict_dir: str) -> tuple[str, list[str]]:
    """(folder, names of the images below it, in natural order).

    Raises:
      UserError: there is no such folder, or no image in it.
    """
    root = os.path.abspath(os.path.expanduser(predict_dir))
    if not predict_dir or not os.path.isdir(root):
        raise UserError(
            f"config.predict.dir={predict_dir!r} is no folder: give the one with the "
            "images to label, as in --config.predict.dir=new_images."
        )
    found, others = image_files.images(image_files.find(root))
    image_files.report_others(others)
    if not found:
        only = f", only {image_files.suffixes(others)}" if others else ""
        raise UserError(
            f"there is no image below config.predict.dir={predict_dir!r}{only}: give "
            "a folder with images."
        )
    return root, [image_files.name_below(root, path) for path in found]


def predicted(
    root: str,
    names: Sequence[str],
    shape: tuple[int, int, int],
    classifier: Callable[[np.ndarray], np.ndarray],
    *,
    strict: bool,
) -> Iterator[tuple[list[str], np.ndarray, list[Unreadable]]]:
    """Block by block: (the names of B images, probs_BK, those that cannot be read).

    Args:
      shape: (H, W, C) that images are brought to.
      classifier: images_BHWC -> probs_BK.

    Raises:
      UserError: an image cannot be read, under `strict`.
    """
    for good, images_BHWC, bad in image_files.decoded(root, names, shape):
        image_files.report(bad if strict else (), strict=strict)
        probs_BK = classifier(images_BHWC) if good else np.zeros((0, 0), np.float32)
        yield good, probs_BK, bad


def save(
    path: Path,
    blocks: Iterator[tuple[list[str], np.ndarray, list[Unreadable]]],
    class_names: Sequence[str],
) -> tuple[Counter, list[Unreadable]]:
    """Writes the blocks to `path`: (images by predicted class, those left out).

    A run that is stopped leaves the file as it was.

    Raises:
      UserError: no image could be read.
    """
    counts, unreadable = Counter(), []
    # A name that is not UTF-8 is written as the bytes that it is.
    text = dict(newline="", encoding="utf-8", errors="surrogateescape")
    with replacing(path, **text) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", *(f"p_{name}" for name in class_names)])
        for names, probs_BK, bad in blocks:
            unreadable += bad
            for name, probs_K in zip(names, probs_BK, strict=True):
                label = class_names[int(probs_K.argmax())]
                counts[label] += 1
                writer.writerow([name, label, *(f"{p:.6f}" for p in probs_K)])
        if not counts:
            first = unreadable[0]
            raise UserError(
                f"of {len(unreadable):,} images none can be read ({first.name}: "
                f"{first.reason}): give a folder with images that can."
            )
    return counts, unreadable


def summary(
    path: Path,
    shape: tuple[int, int, int],
    class_names: Sequence[str],
    counts: Counter,
    num_unreadable: int,
) -> str:
    """What was done, over several lines."""
    height, width, channels = shape
    color = "grey" if channels == 1 else "RGB"
    lines = [
        f"{counts.total():,} images labeled, {num_unreadable:,} skipped that cannot be "
        "read",
        f"brought to {width}x{height} {color}, as the run's own: the centre, resized",
        *(f"  {name}: {counts[name]:,}" for name in class_names),
        str(path),
    ]
    return "\n".join(lines)
