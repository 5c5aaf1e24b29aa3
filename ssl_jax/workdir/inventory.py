"""What data a run began with, and how others differ from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ssl_jax.workdir.files import write_json

FILE = "inventory.json"


class Inventory(NamedTuple):
    """Enough of a data set to tell what came and went."""

    name: str  # of the data set, for messages
    digest: str  # of all that follows, and of the labels of the test set
    class_names: tuple[str, ...]
    shape: tuple[int, ...]  # of an image
    labels: Mapping[str, str]  # by an image's name, its class, or ""; {}: no names
    num_test: int
    # Names of the images whose label the run was granted, and of those that it
    # validates on; (): no names, or not told (by an older version).
    labeled: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()


class Change(NamedTuple):
    """What differs, in words, and whether the run cannot go on with it."""

    what: str
    grave: bool = False


def write(path: Path, inventory: Inventory) -> None:
    # A name may hold bytes that are no text, which JSON escapes.
    write_json(path, inventory._asdict())


def read(path: Path) -> Inventory | None:
    """What `write` wrote; None where there is nothing, of an older version."""
    if not path.exists():
        return None
    there = json.loads(path.read_text())
    lists = {name: tuple(of) for name, of in there.items() if isinstance(of, list)}
    return Inventory(**{**there, **lists})


def changes(
    there: Inventory | None, here: Inventory, *, drawn: bool = False
) -> list[Change]:
    """What differs here from what was there; nothing where the digests agree.

    Args:
      there: None: something that is not known.
      drawn: whether a seed draws which of the images with a label are learned from, and
        which validate. Of others it draws others: what validates may then have been
        learned from.
    """
    if there is None:
        return [Change("it has other classes, images or labels", grave=True)]
    if there.digest == here.digest:
        return []
    if not (there.labels and here.labels):  # images that no name tells from others
        return [Change("the classes, images or labels are others", grave=True)]
    found = []
    if there.class_names != here.class_names:
        found.append(
            Change(
                f"the classes are {', '.join(here.class_names)}, and were "
                f"{', '.join(there.class_names)}",
                grave=True,
            )
        )
    if there.shape != here.shape:
        now, before = ("x".join(map(str, one.shape)) for one in (here, there))
        found.append(Change(f"images are {now}, and were {before}", grave=True))
    both = [name for name in there.labels if name in here.labels]
    for names, what in (
        ([name for name in here.labels if name not in there.labels], "came"),
        (
            [name for name in there.labels if name not in here.labels],
            "went or cannot be read now",
        ),
        (
            [name for name in both if there.labels[name] != here.labels[name]],
            "got another label",
        ),
    ):
        if not names:
            continue
        said = f"{len(names):,} images {what}{_first(names)}"
        redrawn = drawn and any(
            one.labels.get(name) for one in (there, here) for name in names
        )
        if redrawn:
            said += (
                ", and data.num_labels or data.num_validation would draw other images "
                "from those with a label: some that validate may have been learned from"
            )
        found.append(Change(said, grave=redrawn))
    if there.num_test != here.num_test:
        found.append(
            Change(f"{here.num_test:,} are to test on, and were {there.num_test:,}")
        )
    return found or [Change("the images to test on, or their classes, are others")]


def _first(names: Sequence[str]) -> str:
    return f" ({names[0]!r}{' first' if len(names) > 1 else ''})"
