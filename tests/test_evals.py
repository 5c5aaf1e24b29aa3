"""Metrics that merge, and the figures that papers report."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from ssl_jax.core import metrics
from ssl_jax.evaluate import reported
from ssl_jax.train import stopping


def test_sums_equal_scikit_learn_and_ignore_padding():
    rng = np.random.default_rng(0)
    logits_BK, labels_B = rng.normal(size=(40, 5)), rng.integers(0, 5, 40)
    mask_B = np.arange(40) < 33
    halves = [
        metrics.classification_sums(
            *(jnp.asarray(x[part]) for x in (logits_BK, labels_B, mask_B))
        )
        for part in (slice(0, 20), slice(20, 40))
    ]
    means, counts_KK = jax.tree.map(jnp.add, *halves)
    kept = slice(0, 33)
    predicted = logits_BK[kept].argmax(-1)
    np.testing.assert_array_equal(
        counts_KK,
        sklearn_metrics.confusion_matrix(labels_B[kept], predicted, labels=range(5)),
    )
    assert float(means["accuracy"].compute()) == pytest.approx(
        sklearn_metrics.accuracy_score(labels_B[kept], predicted)
    )
    probs = np.asarray(jax.nn.softmax(logits_BK[kept]))
    assert float(means["loss"].compute()) == pytest.approx(
        sklearn_metrics.log_loss(labels_B[kept], probs, labels=range(5)), rel=1e-5
    )


def _rows(tests, vals=None):
    rows = [{"step": k, "test/accuracy": test} for k, test in enumerate(tests)]
    for row, val in zip(rows, vals or [], strict=bool(vals)):
        row["val/accuracy"] = val
    return [*rows[:1], {"step": 0.5, "train/loss": 1.0}, *rows[1:]]


def test_four_figures_by_hand():
    figures = reported.reported(_rows([0.1, 0.9, 0.4, 0.6], [0.3, 0.5, 0.7, 0.7]))
    assert figures == {
        "accuracy": 0.6,
        "accuracy_median20": 0.5,
        "evaluations": 4,
        "accuracy_at_best_val": 0.4,  # the first of the two best
        "accuracy_best_on_test": 0.9,
    }


def test_median_is_of_the_last_twenty_and_nothing_is_chosen_without_validation():
    figures = reported.reported(_rows([0.0] * 30 + [k / 20 for k in range(20)]))
    assert figures["accuracy_median20"] == pytest.approx(9.5 / 20)
    assert figures["evaluations"] == 50
    assert figures["accuracy_at_best_val"] is None


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


def test_effective_rank_is_rankmes_and_merges():
    """exp of the entropy of the singular values, by NumPy of the whole matrix."""
    rng = np.random.default_rng(0)
    features_ND = rng.normal(size=(30, 6)) * np.array([5, 3, 1, 0.5, 0.1, 0])
    mask_N = np.arange(30) < 25
    halves = [
        metrics.EffectiveRank.of(
            jnp.asarray(features_ND[part]), jnp.asarray(mask_N[part])
        )
        for part in (slice(0, 15), slice(15, 30))
    ]
    singular = np.linalg.svd(features_ND[mask_N], compute_uv=False)[:5]
    share = singular / singular.sum()
    merged = jax.tree.map(jnp.add, *halves)
    assert merged.compute() == pytest.approx(
        np.exp(-(share * np.log(share)).sum()), rel=1e-4
    )
    constant = metrics.EffectiveRank.of(jnp.ones((8, 4)), jnp.ones(8, bool))
    assert constant.compute() == pytest.approx(1)
    diverged = metrics.EffectiveRank.of(jnp.full((8, 4), jnp.nan), jnp.ones(8, bool))
    assert np.isnan(diverged.compute())
    nothing = metrics.EffectiveRank.of(jnp.zeros((8, 4)), jnp.ones(8, bool))
    assert nothing.compute() == pytest.approx(1)


def test_projections_over_the_sphere_have_std_one_and_equal_ones_zero():
    rng = np.random.default_rng(0)
    spread = jnp.asarray(rng.normal(size=(4000, 16)))
    assert float(metrics.projection_std(spread)) == pytest.approx(1, abs=0.02)
    assert float(metrics.projection_std(spread[:1].repeat(9, 0))) == pytest.approx(
        0, abs=1e-5
    )


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
