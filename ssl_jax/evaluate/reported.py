"""What is reported of a phase, from the rows of its journal."""

import numpy as np

STRIKING = 16  # mistakes, and as many that are right
COLLAPSED = {"train/projection_std": 0.1, "test/effective_rank": 1.5}  # below these


def collapsed(row: dict, *, tested: bool = True) -> bool:
    """Whether an evaluation's row, or without test images any, shows features or
    projections that say nothing."""
    if tested and "test/effective_rank" not in row:
        return False  # the message has both numbers
    if row.get("train/loss") is None:
        return False  # diverged is not collapsed
    values = {key: row.get(key) for key in COLLAPSED}
    return any(v is not None and v < COLLAPSED[key] for key, v in values.items())


def at_chance(row: dict, classes: int) -> bool:
    """Whether what is judged, averages that may hold their start, guesses among the
    classes, while the network as it trains does not: it is a third of the way to 1."""
    judged, trained = row.get("test/accuracy"), row.get("train/accuracy")
    if None in (judged, trained) or classes < 2:
        return False
    chance = 1 / classes
    return judged < min(1.5 * chance, chance + 0.05) and trained > (1 + 2 * chance) / 3


def warning(
    rows: list[dict], row: dict, classes: int = 0, *, tested: bool = True
) -> str | None:
    """What to tell of a new row after `rows`: that it is the first one collapsed, or
    at chance where the network is not.

    Args:
      classes: how many there are; 0: there is no chance to compare with.
      tested: whether there are test images.
    """
    if at_chance(row, classes) and not any(at_chance(r, classes) for r in rows):
        return (
            f"phase {row['phase']!r} at step {row['step']}: what is judged is at "
            f"chance, test/accuracy {row['test/accuracy']:.4g} of {classes} classes, "
            f"while the network in training has train/accuracy "
            f"{row['train/accuracy']:.4g}. Either its averages still hold their start: "
            "use algorithm.ema_warmup and model.bn_warmup, or lower "
            "algorithm.ema_decay and model.bn_momentum; or it has only learned its "
            "labeled images by heart."
        )
    if not collapsed(row, tested=tested):
        return None
    if any(collapsed(before, tested=tested) for before in rows):
        return None
    numbers = ", ".join(
        f"{key} {row[key]:.3g} (collapsed below {bar:g})"
        for key, bar in COLLAPSED.items()
        if row.get(key) is not None
    )
    return (
        f"phase {row['phase']!r} has collapsed at step {row['step']}: {numbers}. Its "
        "features say next to nothing about the image: lower the learning rate, or "
        "look at the views."
    )


def reported(rows: list[dict]) -> dict:
    """The figures that papers report, from a phase's journal rows.

    accuracy: the last evaluation. accuracy_median20: the median of the last 20
    (FixMatch's protocol), or of all `evaluations` when fewer. accuracy_at_best_val: at
    the first evaluation with the best validation accuracy, None without a validation
    set. accuracy_best_on_test: chosen on the test set (TorchSSL's protocol), an
    oracle: only for a place beside a number that was chosen the same way.

    What else was measured on the test images (balanced_accuracy, geometric_mean and f1,
    `metrics.ByClass`) is given as it was last; without
    accuracies (an autoencoder's phase), nothing else is.
    """
    last = {
        key.removeprefix("test/"): rows[-1][key]
        for key in rows[-1]
        if key.startswith("test/") and key not in ("test/accuracy", "test/loss")
    }
    evaluated = [row for row in rows if "test/accuracy" in row]
    if not evaluated:
        return last
    accuracies = [row["test/accuracy"] for row in evaluated]
    validated = [row for row in evaluated if "val/accuracy" in row]
    best = max(validated, key=lambda row: row["val/accuracy"], default=None)
    return {
        "accuracy": accuracies[-1],
        "accuracy_median20": float(np.median(accuracies[-20:])),
        "evaluations": len(accuracies),
        "accuracy_at_best_val": best and best["test/accuracy"],
        "accuracy_best_on_test": max(accuracies),
        **last,
    }


def striking(
    logits_MK: np.ndarray, labels_M: np.ndarray, count: int = STRIKING
) -> np.ndarray:
    """Rows of the images that tell most of a classifier: the `count` mistakes that it
    was surest of, then as many that it has right and was least sure of."""
    logits_MK = logits_MK.astype(np.float64)
    log_MK = logits_MK - np.logaddexp.reduce(logits_MK, axis=1, keepdims=True)
    confidence_M, right_M = log_MK.max(axis=1), log_MK.argmax(axis=1) == labels_M
    by_confidence = np.argsort(-confidence_M, kind="stable")
    right_M = right_M[by_confidence]
    wrong, right = by_confidence[~right_M], by_confidence[right_M]
    return np.concatenate([wrong[:count], right[::-1][:count]])


def entry(
    rows: list[dict],
    *,
    algorithm: str,
    stopped: str,
    seconds: float,
    compile_seconds: float,
    **measured: float | None,
) -> dict:
    """A trained phase's entry in result.json.

    Args:
      stopped: by what: "steps", or a rule of `train.stopping`.
      seconds: of training and evaluating, over all launches.
      compile_seconds: of the last launch, for a step and for an evaluation.
      **measured: what else is known of its speed.
    """
    accuracy = rows[-1].get("val/accuracy")
    return {
        "algorithm": algorithm,
        "steps": rows[-1]["step"],
        "stopped": stopped,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        **measured,
        "val": {} if accuracy is None else {"accuracy": accuracy},
        "test": reported(rows),
    }
