"""When a phase stops before its last step, and why."""

import numpy as np

from ssl_jax.train.parts import Trains


def stale(accuracies_E, losses_E, evaluations, *, patience: int, loss_window: int):
    """Whether a phase should stop after `evaluations` of its E validations.

    By `patience`: so many have not exceeded the best accuracy before them. By
    `loss_window`: the last loss is above the mean of so many before it (the rule of
    GCN's code, arXiv:1609.02907, whose loss has the weight decay's term as well). 0 of
    either: not by that. For arrays of NumPy, on the host, and of JAX, inside a compiled
    loop; what lies behind `evaluations` is ignored.
    """
    place_E = np.arange(len(accuracies_E))
    stop = evaluations < 0  # False, of either kind
    if patience:
        seen_E = accuracies_E * (place_E < evaluations)
        stop |= evaluations - 1 - seen_E.argmax() >= patience
    if loss_window:
        last = evaluations - 1
        window_E = (place_E >= last - loss_window) & (place_E < last)
        mean = (losses_E * window_E).sum() / loss_window
        rises = (losses_E * (place_E == last)).sum() > mean
        stop |= rises & (evaluations > loss_window + 1)
    return stop


def watches(section: Trains) -> bool:
    """Whether the phase may stop before its last step."""
    return bool(section.patience or section.loss_window)


def over(rows: list[dict], section: Trains) -> bool:
    """Whether the phase with these journal rows should stop by a rule of its own."""
    accuracies_E, losses_E = _validations(rows)
    if not (watches(section) and len(accuracies_E)):
        return False
    rule = dict(patience=section.patience, loss_window=section.loss_window)
    return bool(stale(accuracies_E, losses_E, len(accuracies_E), **rule))


def stopped_by(rows: list[dict], section: Trains) -> str:
    """Why the phase with these rows ended: "steps", or the rule of `stale`."""
    if rows[-1]["step"] == section.steps:
        return "steps"
    accuracies_E, losses_E = _validations(rows)
    rule = dict(patience=section.patience, loss_window=0)
    by_patience = stale(accuracies_E, losses_E, len(losses_E), **rule)
    return "patience" if by_patience else "loss_window"


def _validations(rows):
    """(accuracies_E, losses_E)."""
    return tuple(
        np.array([row[name] for row in rows if name in row])
        for name in ("val/accuracy", "val/loss")
    )
