"""When a phase stops before its last step, and why."""

import numpy as np

from ssl_jax.train.parts import Trains

# Fields of a phase, each 0 where it does not stop by that.
RULES = ("patience", "loss_patience", "loss_window")


def stale(
    accuracies_E,
    losses_E,
    evaluations,
    *,
    patience: int = 0,
    loss_patience: int = 0,
    loss_gain: float = 0.0,
    loss_window: int = 0,
):
    """Whether a phase should stop after `evaluations` of its E validations.

    By `patience`: so many have not exceeded the best accuracy before them. By
    `loss_patience`: the loss is stable, for the lowest of the last so many is not lower
    than the lowest before them, by `loss_gain` of it. By `loss_window`: the last loss
    is above the mean of so many before it (the rule of GCN's code, arXiv:1609.02907,
    whose loss has the weight decay's term as well). 0 of any: not by that. For arrays
    of NumPy, on the host, and of JAX, inside a compiled loop; what lies behind
    `evaluations` is ignored.
    """
    place_E = np.arange(len(losses_E))
    stop = evaluations < 0  # False, of either kind
    last = evaluations - 1
    if patience:
        seen_E = accuracies_E * (place_E < evaluations)
        stop |= last - seen_E.argmax() >= patience
    if loss_patience:
        before_E = place_E < evaluations - loss_patience
        recent_E = (place_E < evaluations) & ~before_E
        low = losses_E.min(where=before_E, initial=np.inf)
        recent = losses_E.min(where=recent_E, initial=np.inf)
        stable = recent >= low * (1 - loss_gain)
        stop |= stable & (evaluations > loss_patience)
    if loss_window:
        window_E = (place_E >= last - loss_window) & (place_E < last)
        mean = losses_E.sum(where=window_E) / loss_window
        rises = losses_E.sum(where=place_E == last) > mean
        stop |= rises & (evaluations > loss_window + 1)
    return stop


def rules(section: Trains) -> dict[str, float]:
    """What `stale` is told of a phase."""
    names = (*RULES, "loss_gain")
    return {name: getattr(section, name) for name in names}


def watches(section: Trains) -> bool:
    """Whether the phase may stop before its last step."""
    return any(getattr(section, name) for name in RULES)


def over(rows: list[dict], section: Trains) -> bool:
    """Whether the phase with these journal rows should stop by a rule of its own."""
    _, accuracies_E, losses_E = _validations(rows)
    if not (watches(section) and len(losses_E)):
        return False
    return bool(stale(accuracies_E, losses_E, len(losses_E), **rules(section)))


def stopped_by(rows: list[dict], section: Trains) -> str:
    """Why the phase with these rows ended: "steps", or the rule of `stale`."""
    if rows[-1]["step"] == section.steps:
        return "steps"
    _, accuracies_E, losses_E = _validations(rows)
    asked = rules(section)
    for name in RULES:
        alone = asked | {other: 0 for other in RULES if other != name}
        if stale(accuracies_E, losses_E, len(losses_E), **alone):
            return name
    raise ValueError(f"{section.name} is not over at step {rows[-1]['step']}")


def said(rows: list[dict], section: Trains) -> str:
    """Which rule ended the phase with these rows, and by which numbers."""
    at, steps = section.name, rows[-1]["step"]
    rule = stopped_by(rows, section)
    if rule == "steps":
        return f"{at} ends: all {steps:,} steps are done"
    steps_E, accuracies_E, losses_E = _validations(rows)
    head = f"{at} stops at step {steps:,} of {section.steps:,}"
    number = getattr(section, rule)
    by = f"{at}.{rule}={number}"
    if rule == "patience":
        best = accuracies_E.argmax()
        return (
            f"{head}: no validation accuracy of the last {number} is above "
            f"{accuracies_E[best]:.4g}, of step {steps_E[best]:,} ({by})"
        )
    if rule == "loss_window":
        mean = losses_E[-1 - number : -1].mean()
        return (
            f"{head}: the validation loss, {losses_E[-1]:.4g}, is above the mean of "
            f"the {number} before it, {mean:.4g} ({by})"
        )
    low = losses_E[:-number].argmin()
    lower = f"lower by {section.loss_gain:.3g} of it" if section.loss_gain else "lower"
    return (
        f"{head}: the validation loss is stable, the lowest of the last {number}, "
        f"{losses_E[-number:].min():.4g}, is not {lower} than {losses_E[low]:.4g}, of "
        f"step {steps_E[low]:,} ({by})"
    )


def _validations(rows):
    """(steps_E, accuracies_E, losses_E); zeros in place of accuracies that a method has
    not."""
    found = [row for row in rows if "val/loss" in row]
    return (
        np.array([row["step"] for row in found], int),
        np.array([row.get("val/accuracy", 0.0) for row in found], float),
        # None: not finite.
        np.array([np.inf if (x := row["val/loss"]) is None else x for row in found]),
    )
