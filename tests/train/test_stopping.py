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


def test_a_loss_is_stable_when_the_lowest_of_late_is_not_lower_than_before():
    def stale(*losses, patience=2, gain=0.0):
        given = dict(loss_patience=patience, loss_gain=gain)
        losses = np.array([*losses, 0.0])  # what lies behind is ignored
        on_host = stopping.stale(losses, losses, len(losses) - 1, **given)
        in_loop = jax.jit(lambda x: stopping.stale(x, x, len(losses) - 1, **given))
        assert bool(in_loop(jnp.asarray(losses))) == on_host
        return on_host

    assert not stale(1.0, 2.0)  # nothing lies before the last two
    assert not stale(1.0, 2.0, 0.9) and stale(1.0, 2.0, 1.0)  # equal is no gain
    assert not stale(0.9, 1.0, 0.8, 2.0)  # it was lower a short while ago
    assert stale(0.9, 0.8, 0.8, 2.0) and not stale(0.9, 0.8, 0.8, 2.0, patience=3)
    # Always lower, by a hundredth in two evaluations.
    losses = 1.0, 0.995, 0.99, 0.985
    assert not stale(*losses) and not stale(*losses, gain=0.005)
    assert stale(*losses, gain=0.02)


def test_why_a_phase_stopped_is_the_rule_that_did_it():
    """All rules watch; the accuracy is best at the end, and the last loss rises."""
    losses = [0.9, 0.8, 0.7, 0.6, 0.9]
    rows = [
        {"step": 10 * i, "val/accuracy": i / 10, "val/loss": loss}
        for i, loss in enumerate(losses, start=1)
    ]

    def watched(steps, **rules):
        given = dict(patience=3, loss_patience=4, loss_gain=0.0, loss_window=2)
        return SimpleNamespace(name="train", steps=steps, **(given | rules))

    assert stopping.over(rows, watched(90))
    assert stopping.stopped_by(rows, watched(90)) == "loss_window"
    assert stopping.stopped_by(rows, watched(50)) == "steps"
    assert stopping.said(rows, watched(90)) == (
        "train stops at step 50 of 90: the validation loss, 0.9, is above the mean of "
        "the 2 before it, 0.65 (train.loss_window=2)"
    )
    stable = watched(90, loss_patience=3, loss_gain=0.5)
    assert stopping.stopped_by(rows, stable) == "loss_patience"
    assert stopping.said(rows, stable) == (
        "train stops at step 50 of 90: the validation loss is stable, the lowest of "
        "the last 3, 0.6, is not lower by 0.5 of it than 0.8, of step 20 "
        "(train.loss_patience=3)"
    )
    for row in rows[2:]:
        row["val/accuracy"] = 0.1
    assert stopping.stopped_by(rows, watched(90)) == "patience"
    assert stopping.said(rows, watched(90)) == (
        "train stops at step 50 of 90: no validation accuracy of the last 3 is above "
        "0.2, of step 20 (train.patience=3)"
    )
    rows[-1]["val/loss"] = None  # not finite: above any mean
    assert stopping.stopped_by(rows, watched(90, patience=0)) == "loss_window"
