"""What the rows of a journal measure: which of their numbers are of one quantity."""

from collections.abc import Sequence

SETS = ("train", "val", "test")
CROSS_ENTROPY = "cross-entropy"
CHANGE = "change of the labels in a step"  # a method without a loss logs it as such
# What was measured alike on images to train on and on others: the metric there, the
# metric here, and what it is. The first that the rows have; if none, it is the loss.
_ALIKE = (
    ("objective", "objective", "objective"),
    ("reconstruction_loss", "reconstruction_loss", "reconstruction loss"),
    ("labeled_loss", "loss", f"{CROSS_ENTROPY} of labeled images"),
    ("cross_entropy", "loss", CROSS_ENTROPY),
)


def series(rows: list[dict], key: str) -> tuple[list[int], list]:
    """(steps, values) of the journal's rows that have `key`."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    return [p[0] for p in points], [p[1] for p in points]


def panels(
    rows_of: Sequence[list[dict]], loss: str = CROSS_ENTROPY
) -> list[tuple[str, dict[str, str]]]:
    """[(what it is, {"train", "val" and "test": key})] of the losses and of the
    accuracies that the rows, of each seed, have."""
    keys = {key for rows in rows_of for row in rows for key in row}
    of_train, held_out, label = next(
        (alike for alike in _ALIKE if f"train/{alike[0]}" in keys),
        ("loss", "loss" if loss == CROSS_ENTROPY else "", loss),
    )
    losses = {"train": f"train/{of_train}"}
    losses |= {name: f"{name}/{held_out}" for name in ("val", "test")}
    found = [(label, losses)]
    # An online probe that was granted no label has learned nothing.
    probed = "train/objective" in keys
    names = {key for key in keys if key.endswith("/accuracy")}
    if names and not (probed and "train/accuracy" not in names):
        label = "accuracy of the online probe" if probed else "accuracy"
        found.append((label, {name: f"{name}/accuracy" for name in SETS}))
    return found


def parts_of(rows: list[dict]) -> dict[str, str]:
    """{name: key} of the training loss and what it is the weighted sum of; an
    autoencoder's has one part."""
    keys = dict.fromkeys(key for row in rows for key in row)
    parts = {"whole": "train/loss"} if "train/loss" in keys else {}
    for key in keys:
        name = key.removeprefix("train/")
        part = name.endswith("_loss") and name != "reconstruction_loss"
        if key.startswith("train/") and (
            part or name in ("objective", "cross_entropy")
        ):
            name = name.replace("cross_entropy", CROSS_ENTROPY)
            parts[name.replace("_", " ")] = key
    return parts
