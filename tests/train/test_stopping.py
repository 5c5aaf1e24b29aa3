"""A phase stops by a rule of its own, and says by which."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.train import stopping


def test_patience_counts_evaluations_without_a_better_accuracy():
    def stale(*accuracies, patience=2):
        accuracies = np.array([*accuracies, 0.9])  # what lies behind is ignored
        zeros, count = np.zeros(len(accuracies)), len(accuracies) - 1
        return stopping.stale(
            accuracies, zeros, count, patience=patience, loss_window=0
        )

    assert not stale(0.1)
    assert not stale(0.3, 0.2) and stale(0.3, 0.2, patience=1)
    assert stale(0.1, 0.3, 0.2, 0.3)  # equal is no gain
    assert not stale(0.1, 0.3, 0.2, 0.3, 0.4)
    assert not stale(0.3, 0.2, 0.2, patience=0)


def test_loss_window_is_the_rule_of_gcns_code():
    """Epoch > window, and the loss above the mean of the window before it."""
    rng = np.random.default_rng(0)
    losses, window = rng.normal(size=60), 5
    stale = jax.jit(
        lambda losses, count: stopping.stale(
            jnp.zeros(60), losses, count, patience=0, loss_window=window
        )
    )
    for epoch in range(60):
        seen = losses[: epoch + 1]
        published = epoch > window and seen[-1] > seen[-(window + 1) : -1].mean()
        assert bool(stale(jnp.asarray(losses), epoch + 1)) == published, epoch


def test_why_a_phase_stopped_is_the_rule_that_did_it():
    """Both rules watch; the accuracy is best at the end, and the last loss rises."""
    losses = [0.9, 0.8, 0.7, 0.6, 0.9]
    rows = [
        {"step": 10 * i, "val/accuracy": i / 10, "val/loss": loss}
        for i, loss in enumerate(losses, start=1)
    ]

    def watched(steps):
        return SimpleNamespace(steps=steps, patience=3, loss_window=2)

    assert stopping.stopped_by(rows, watched(90)) == "loss_window"
    assert stopping.stopped_by(rows, watched(50)) == "steps"
    for row in rows[2:]:
        row["val/accuracy"] = 0.1
    assert stopping.stopped_by(rows, watched(90)) == "patience"
