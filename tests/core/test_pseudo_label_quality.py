"""What is said of pseudo-labels: against transcriptions, by hand, and on devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax import core
from ssl_jax.core import metrics

U, K = 64, 5


quality = jax.jit(metrics.pseudo_label_quality)


def _step(seed=0):
    """(probs_UK, weight_U, truth_U, threshold_K) of predictions right two times in
    three; a fifth of the truths is not known."""
    rng = np.random.default_rng(seed)
    truth_U = rng.integers(0, K, U)
    logits_UK = rng.normal(size=(U, K)) + 2 * np.eye(K)[truth_U]
    logits_UK *= rng.choice([0.4, 3], U)[:, None]  # not sure enough, and too sure
    probs_UK = np.exp(logits_UK) / np.exp(logits_UK).sum(1, keepdims=True)
    truth_U = np.where(rng.random(U) < 0.2, -1, truth_U)
    weight_U = np.where(rng.random(U) < 0.4, 0, rng.random(U))
    step = probs_UK, weight_U, truth_U, rng.random(K)
    return [jnp.asarray(x, jnp.int32 if x is truth_U else jnp.float32) for x in step]


def _calibration(probs_UK, truth_U):
    """ECE and bins, as in arXiv:1706.04599, section 2: a loop over the bins."""
    known = truth_U >= 0
    confidence, right = probs_UK.max(1)[known], (probs_UK.argmax(1) == truth_U)[known]
    ece, bins = 0, []
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        n = inside.sum()
        bins.append([n, np.nan, np.nan])
        if n:
            acc, conf = right[inside].mean(), confidence[inside].mean()
            bins[-1] = [n, conf, acc]
            ece += n / len(confidence) * abs(acc - conf)
    return ece, bins


def test_calibration_is_the_papers_and_two_halves_merge_to_the_whole():
    probs_UK, weight_U, truth_U, threshold_K = _step()
    whole = quality(probs_UK, weight_U, truth_U, threshold_K)
    halves = [
        quality(probs_UK[h], weight_U[h], truth_U[h], threshold_K)
        for h in (slice(0, U // 4), slice(U // 4, U))
    ]
    merged = jax.tree.map(jnp.add, *halves)
    ece, bins = _calibration(np.asarray(probs_UK, np.float64), np.asarray(truth_U))
    gaps = np.diff(bins)[:, 1]
    assert ece > 0.05 and (gaps > 0).any() and (gaps < 0).any() and np.isnan(gaps).any()
    for sums in whole, merged:
        computed = sums["calibration"].compute()
        assert computed["ece"] == pytest.approx(ece, rel=1e-5)
        np.testing.assert_allclose(computed["reliability"], bins, rtol=1e-5)
        assert sums["calibration"].count == (truth_U >= 0).sum() < U
    for name in ("share_kept", "kept_accuracy", "rejected_accuracy"):
        assert merged[name].compute() == pytest.approx(float(whole[name].compute()))
    per_step = 2 * merged["kept_per_class"].compute()  # the halves count as two steps
    np.testing.assert_allclose(per_step, whole["kept_per_class"].compute(), rtol=1e-6)
    assert all(metric.count.ndim == 0 for metric in whole.values())


def test_bins_are_closed_above_and_hold_zero_and_one():
    confidence_U = jnp.array([0.0, 0.001, 1 / 15, 0.067, 0.8, 0.81, 1.0])
    ones_U = jnp.ones(7)
    calibration = metrics.Calibration.of(confidence_U, ones_U, ones_U)
    in_bins = dict(zip((0, 1, 11, 12, 14), (3, 1, 1, 1, 1), strict=True))
    counts = [in_bins.get(m, 0) for m in range(15)]
    assert calibration.compute()["reliability"][:, 0].tolist() == counts


def test_kept_and_rejected_by_hand():
    """The rows' pseudo-labels are 0, 0, 1, 1, 1, the truths 0, 1, 1, ?, 0."""
    probs_UK = jnp.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.0, 1.0], [0.4, 0.6]])
    truth_U = jnp.array([0, 1, 1, -1, 0])
    weight_U = jnp.array([1.0, 0.5, 0.25, 1.0, 0.0])
    metrics = quality(probs_UK, weight_U, truth_U, jnp.array([0.7, 0.8]))
    values = {name: metrics[name].compute() for name in metrics}
    assert values["share_kept"] == pytest.approx(2.75 / 5)
    assert values["kept_accuracy"] == pytest.approx((1 + 0.25) / (1 + 0.5 + 0.25))
    assert values["rejected_accuracy"] == pytest.approx(0.75 / (0.5 + 0.75 + 1))
    np.testing.assert_allclose(values["kept_per_class"], [1.5, 1.25])
    np.testing.assert_allclose(values["predicted_per_class"], [2, 3])
    np.testing.assert_allclose(values["threshold_per_class"], [0.7, 0.8])
    kept = quality(probs_UK, weight_U == 1, truth_U, jnp.ones(2))
    assert kept["kept_accuracy"].compute() == 1  # a mask is a weight as well
    unknown = quality(probs_UK, weight_U, -jnp.ones(5, int), jnp.ones(2))
    counts = {name: float(metric.count) for name, metric in unknown.items()}
    nothing = {"kept_accuracy", "rejected_accuracy", "calibration"}
    assert {name for name in counts if not counts[name]} == nothing


def test_class_figures_are_means_over_steps():
    steps = [_step(seed) for seed in range(3)]
    sums = [quality(*step) for step in steps]
    means = jax.tree.map(lambda *leaves: sum(leaves), *sums)
    weights = np.stack([step[1] for step in steps])
    pseudo = np.stack([step[0].argmax(1) for step in steps])
    for name, weight in (
        ("kept_per_class", weights),
        ("predicted_per_class", np.ones_like(weights)),
    ):
        expected = [(weight * (pseudo == k)).sum() / 3 for k in range(K)]
        np.testing.assert_allclose(means[name].compute(), expected, rtol=1e-5)
    threshold_K = np.mean([step[3] for step in steps], 0)
    np.testing.assert_allclose(
        means["threshold_per_class"].compute(), threshold_K, rtol=1e-6
    )


def test_four_devices_equal_one_and_exchange_sums_only():
    step = _step()
    mesh = core.make_mesh(jax.devices()[:4])
    rows, replicated = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    shardings = (rows, rows, rows, replicated)
    program = jax.jit(
        metrics.pseudo_label_quality, in_shardings=shardings, out_shardings=replicated
    )
    program = program.lower(*step).compile()
    exchanges = re.findall(
        r"\b(all-\w+|collective-\w+|reduce-scatter|ragged-[\w-]+)(?:-start)?\(",
        program.as_text(),
    )
    assert set(exchanges) == {"all-reduce"}
    jax.tree.map(
        lambda four, one: np.testing.assert_allclose(four, one, rtol=1e-6),
        jax.device_get(program(*map(jax.device_put, step, shardings))),
        jax.device_get(quality(*step)),
    )
