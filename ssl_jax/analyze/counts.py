"""Images by class and split, and how unequal the classes are."""

from collections.abc import Iterator, Mapping

import numpy as np

from ssl_jax.data import splits
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.splits import Split

_UNEQUAL = 10  # times as many images of one class as of another, which is told
_UNLIKE = 0.2  # of the labels are shared out otherwise in the test set
_SEEN = 2  # standard deviations of chance, above which such a difference counts

Rows = dict[str, np.ndarray]  # by split: rows of the pool, or of the test set


def pool_rows(dataset: Dataset, split: Split | None) -> Rows:
    """The rows of the pool by what they are to a run: labeled, unlabeled (no label is
    granted), validation, and unused where some are in none; without a split the pool,
    and what is held out of it."""
    N = len(dataset.labels_N)
    if split is None:
        first = N - dataset.num_held_out
        held_out = {"validation": np.arange(first, N)} if first < N else {}
        return {"pool": np.arange(first), **held_out}
    parts = {
        "labeled": split.labeled,
        "unlabeled": splits.candidates(split),
        "validation": split.validation,
    }
    unused = np.setdiff1d(np.arange(N), np.concatenate(list(parts.values())))
    parts |= {"unused": unused}
    return {
        name: rows for name, rows in parts.items() if len(rows) or name == "labeled"
    }


def table(
    labels: Mapping[str, np.ndarray], class_names: tuple[str, ...]
) -> dict[str, dict]:
    """{split: {"images", "classes": {name: images that are known to be of it}}}.

    Args:
      labels: of the images of each split; -1: not known.
    """
    return {name: _column(labels_N, class_names) for name, labels_N in labels.items()}


def _column(labels_N, class_names):
    counts_K = np.bincount(labels_N[labels_N >= 0], minlength=len(class_names))
    counted = dict(zip(class_names, counts_K.tolist(), strict=True))
    return {"images": len(labels_N), "classes": counted}


def balance(counts: Mapping[str, Mapping]) -> dict[str, dict]:
    """Of each split with labels: {"most", "fewest": [class, images], "ratio",
    "largest_share": what always guessing the largest class would be right by}."""
    found = {}
    for name, of_split in counts.items():
        classes = of_split["classes"]
        if not (total := sum(classes.values())):
            continue
        most, fewest = (by(classes, key=classes.get) for by in (max, min))
        low, high = classes[fewest], classes[most]
        found[name] = {
            "most": [most, high],
            "fewest": [fewest, low],
            "ratio": round(high / low, 2) if low else None,
            "largest_share": round(high / total, 4),
        }
    return found


def warnings(counts: Mapping[str, Mapping], balances: Mapping) -> Iterator[str]:
    """What of it a run suffers from."""
    for name in ("pool", "labeled"):
        if name not in balances:
            continue
        (most, high), (fewest, low) = (balances[name][of] for of in ("most", "fewest"))
        if high >= _UNEQUAL * max(low, 1):
            yield (
                f"the classes are unequal: {most!r} has {high:,} {name} images, "
                f"{fewest!r} {low:,}. data.num_labels draws as many of each class; "
                "accuracy says little of the small ones."
            )
    labels = [counts[n] for n in ("labeled", "unlabeled", "pool") if n in counts]
    learned, tested = (_shares(parts) for parts in (labels, [counts["test"]]))
    if learned is None or tested is None:
        return
    (share_K, _), (test_K, num_test) = learned, tested
    unlike = np.abs(share_K - test_K).sum() / 2
    chance = _SEEN * np.sqrt(len(share_K) / (2 * np.pi * num_test))
    if unlike > _UNLIKE + chance:
        k = (test_K - share_K).argmax()
        class_name = list(counts["test"]["classes"])[k]
        yield (
            f"the test set has other shares of the classes: {class_name!r} is "
            f"{test_K[k]:.0%} of it, and {share_K[k]:.0%} of the labels to train on."
        )


def _shares(parts):
    """(share_K of the labels known, how many those are)."""
    counts_K = np.sum([list(part["classes"].values()) for part in parts], axis=0)
    total = counts_K.sum()
    return (counts_K / total, total) if total else None
