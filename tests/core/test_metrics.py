"""Metrics are sums: against scikit-learn and transcriptions, by hand, on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from ssl_jax import core
from ssl_jax.core import metrics


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


def test_every_class_counts_alike_and_one_without_images_not_at_all():
    labels_B = np.array([0] * 8 + [1] * 3 + [3])  # none of class 2
    predicted_B = np.array([0] * 6 + [1, 2] + [1, 1, 0] + [3])
    sums, _ = metrics.classification_sums(
        jax.nn.one_hot(predicted_B, 4), labels_B, jnp.ones(12, bool)
    )
    ours = sums["by_class"].compute()
    recalls = np.array([6 / 8, 2 / 3, 1])
    assert ours["balanced_accuracy"] == pytest.approx(
        sklearn_metrics.recall_score(
            labels_B, predicted_B, labels=[0, 1, 3], average="macro"
        )
    )
    assert ours["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert ours["geometric_mean"] == pytest.approx(recalls.prod() ** (1 / 3))
    assert ours["f1"] == pytest.approx(
        sklearn_metrics.f1_score(
            labels_B, predicted_B, labels=[0, 1, 3], average="macro"
        )
    )
    never = metrics.ByClass(np.array([[3, 0], [2, 0]])).compute()
    assert never["geometric_mean"] == 0 and never["balanced_accuracy"] == 0.5
    shifted = np.roll(np.eye(1000), 1, axis=0)  # each class right in 2 of 5 images
    many = metrics.ByClass(2 * np.eye(1000) + 3 * shifted).compute()
    assert many["geometric_mean"] == pytest.approx(0.4)


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


def test_mean_counts_only_what_the_mask_keeps():
    metric = core.mean(jnp.array([1.0, 2.0, 6.0]), jnp.array([True, False, True]))
    merged = jax.tree.map(jnp.add, metric, core.mean(jnp.array([5.0])))
    assert float(merged.compute()) == 4


def test_a_loss_times_a_mask_of_another_rank_is_an_error():
    """A trap from other codebases: [B] * [B, 1] averages instead of masking."""
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones(3) * jnp.ones((3, 1))
