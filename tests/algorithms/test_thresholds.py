"""Thresholds of FixMatch's kin against slow transcriptions of their papers' equations.

The transcriptions are plain Python over lists, in double precision; each class here is
one paper, written from its text and not from our code.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.adamatch import AdaMatch
from ssl_jax.algorithms.dash import Dash
from ssl_jax.algorithms.fixmatch import Seen, hard
from ssl_jax.algorithms.flexmatch import FlexMatch
from ssl_jax.algorithms.freematch import FreeMatch
from ssl_jax.algorithms.softmatch import SoftMatch
from ssl_jax.algorithms.uda import UDA
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core.losses import sharpen

STEPS, B, U, K, N = 200, 6, 14, 5, 60
BUILT_WITHOUT = dict(model=None, tx=None, views=None)  # a threshold needs none of them


def _steps():
    """Random predictions that grow surer, some classes sooner than others."""
    rng = np.random.default_rng(0)
    ease_K = np.linspace(0.2, 2.0, K)
    for step in range(STEPS):

        def predict(rows, scale):
            truth = rng.integers(K, size=rows)
            logits = rng.normal(size=(rows, K))
            logits[np.arange(rows), truth] += scale * ease_K[truth]
            probs = np.exp(3 * logits)
            return probs / probs.sum(1, keepdims=True)

        labeled_BK, weak_UK = predict(B, 3.0), predict(U, 2 * step / STEPS)
        yield Seen(
            step=np.int32(step),
            labeled_BK=labeled_BK,
            loss_B=rng.exponential(size=B),
            weak_UK=weak_UK,
            index_U=rng.permutation(N)[:U],
        )


def _argmax(row):
    return max(range(len(row)), key=lambda k: row[k])


def _hard(rows):
    return [[1.0 if c == _argmax(row) else 0.0 for c in range(K)] for row in rows]


class FlexMatchByHand:
    """arXiv:2110.08263, algorithm 1; tau = 0.95."""

    def __init__(self):
        self.u_hat = [-1] * N

    def step(self, seen):
        sigma = [sum(1 for u in self.u_hat if u == c) for c in range(K)]
        unused = sum(1 for u in self.u_hat if u == -1)
        beta = [s / max(max(sigma), unused) for s in sigma]
        threshold = [b / (2 - b) * 0.95 for b in beta]
        weights = []
        for row, index in zip(seen.weak_UK.tolist(), seen.index_U, strict=True):
            c = _argmax(row)
            weights.append(1.0 if row[c] >= threshold[c] else 0.0)
            if row[c] >= 0.95:
                self.u_hat[index] = c
        return _hard(seen.weak_UK.tolist()), weights, threshold, {"class_N": self.u_hat}


class FreeMatchByHand:
    """arXiv:2205.07246, eqs 5 to 7, and h~ of eq. 9; lambda = 0.99."""

    def __init__(self):
        self.tau, self.p, self.h = 1 / K, [1 / K] * K, [1 / K] * K

    def step(self, seen):
        rows = seen.weak_UK.tolist()
        labels = [_argmax(row) for row in rows]
        self.tau = 0.99 * self.tau + 0.01 * sum(max(row) for row in rows) / U
        for c in range(K):
            self.p[c] = 0.99 * self.p[c] + 0.01 * sum(row[c] for row in rows) / U
            self.h[c] = 0.99 * self.h[c] + 0.01 * labels.count(c) / U
        threshold = [self.tau * self.p[c] / max(self.p) for c in range(K)]
        weights = [
            1.0 if row[c] >= threshold[c] else 0.0
            for row, c in zip(rows, labels, strict=True)
        ]
        state = {"confidence": self.tau, "probs_K": self.p, "histogram_K": self.h}
        return _hard(rows), weights, threshold, state


def _align(row, wanted, mean):
    scaled = [
        p * (w + 1e-6) / (m + 1e-6) for p, w, m in zip(row, wanted, mean, strict=True)
    ]
    return [s / sum(scaled) for s in scaled]


class SoftMatchByHand:
    """arXiv:2301.10921, eqs 4 to 6 and uniform alignment; m = 0.99, 2 sigmas."""

    def __init__(self):
        self.mu, self.var, self.p = 1 / K, 1.0, None

    def step(self, seen):
        rows = seen.weak_UK.tolist()
        batch = [sum(row[c] for row in rows) / U for c in range(K)]
        if self.p is None:
            self.p = batch
        else:
            self.p = [0.99 * p + 0.01 * b for p, b in zip(self.p, batch, strict=True)]
        sure = [max(_align(row, [1 / K] * K, self.p)) for row in rows]
        mean = sum(sure) / U
        variance = sum((s - mean) ** 2 for s in sure) / (U - 1)
        self.mu = 0.99 * self.mu + 0.01 * mean
        self.var = 0.99 * self.var + 0.01 * variance
        weights = [
            math.exp(-((s - self.mu) ** 2) / (2 * self.var / 4)) if s < self.mu else 1.0
            for s in sure
        ]
        state = {"mean": self.mu, "variance": self.var, "probs_K": self.p}
        # Labels are of the predictions as they are: alignment decides weights only.
        return _hard(rows), weights, [self.mu] * K, state


class AdaMatchByHand:
    """arXiv:2106.04732, sections 3.2 and 3.3, means running at 0.99; tau = 0.95."""

    def __init__(self):
        self.labeled, self.unlabeled = [1 / K] * K, None

    def step(self, seen):
        rows, labeled = seen.weak_UK.tolist(), seen.labeled_BK.tolist()
        for c in range(K):
            mean = sum(row[c] for row in labeled) / B
            self.labeled[c] = 0.99 * self.labeled[c] + 0.01 * mean
        batch = [sum(row[c] for row in rows) / U for c in range(K)]
        before = self.unlabeled or batch
        self.unlabeled = [
            0.99 * p + 0.01 * b for p, b in zip(before, batch, strict=True)
        ]
        bar = 0.95 * sum(max(row) for row in labeled) / B
        aligned = [_align(row, self.labeled, self.unlabeled) for row in rows]
        weights = [1.0 if max(row) >= bar else 0.0 for row in aligned]
        state = {"labeled_K": self.labeled, "unlabeled_K": self.unlabeled}
        return _hard(aligned), weights, [bar] * K, state


class DashByHand:
    """Algorithm 1 of the paper, hard labels from rho_min on; soft ones at T = 0.5. The
    20 labeled images go by in the last 4 batches of 6 of the warm-up."""

    def __init__(self):
        self.losses, self.rho_hat = [], 0.0

    def step(self, seen):
        if 46 <= seen.step < 50:
            self.losses += seen.loss_B.tolist()
            self.rho_hat = sum(self.losses) / len(self.losses)
        t = 1 + max(seen.step - 50, 0) // 10
        rho = max(1.0001 * 1.27 ** -(t - 1) * self.rho_hat, 0.05)
        weights, targets = [], []
        for row in seen.weak_UK.tolist():
            if rho > 0.05:
                squares = [p**2 for p in row]
                target = [s / sum(squares) for s in squares]
            else:
                target = [1.0 if c == _argmax(row) else 0.0 for c in range(K)]
            loss = -sum(t * math.log(p) for t, p in zip(target, row, strict=True) if t)
            weights.append(1.0 if loss <= rho and seen.step >= 50 else 0.0)
            targets.append(target)
        return targets, weights, [math.exp(-rho)] * K, {"rho_hat": self.rho_hat}


KIN = [
    (FlexMatch(num_classes=K, num_unlabeled=N, **BUILT_WITHOUT), FlexMatchByHand),
    (FreeMatch(num_classes=K, threshold_decay=0.99, **BUILT_WITHOUT), FreeMatchByHand),
    (SoftMatch(num_classes=K, moments_decay=0.99, **BUILT_WITHOUT), SoftMatchByHand),
    (AdaMatch(num_classes=K, distribution_decay=0.99, **BUILT_WITHOUT), AdaMatchByHand),
    (
        Dash(num_labeled=20, warmup_steps=50, round_steps=10, **BUILT_WITHOUT),
        DashByHand,
    ),
]


@pytest.mark.parametrize(("algorithm", "by_hand"), KIN, ids=lambda v: type(v).__name__)
def test_thresholds_equal_a_transcription_of_the_paper(algorithm, by_hand):
    """In double precision: float32 rounds SoftMatch's weights by up to 1.1e-6."""
    with jax.enable_x64(True):
        _compare(algorithm, by_hand())


def _compare(algorithm, reference):
    state = algorithm.init_thresholds()
    step = jax.jit(algorithm.targets)
    kept = []
    for seen in _steps():
        targets, state = step(state, seen)
        target, weights, threshold, state_by_hand = reference.step(seen)
        np.testing.assert_allclose(targets.target_UK, target, rtol=0, atol=1e-6)
        np.testing.assert_allclose(targets.weight_U, weights, rtol=0, atol=1e-6)
        np.testing.assert_allclose(targets.threshold_K, threshold, rtol=0, atol=1e-6)
        assert state.keys() == state_by_hand.keys()
        for name, value in state_by_hand.items():
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-6)
        kept.append(np.mean(weights))
    # The steps must have put it to the test: neither all kept nor all rejected.
    assert 0.1 < np.mean(kept[50:]) < 0.99 and np.std(kept) > 0.01


def test_softmatch_of_one_image_keeps_its_variance():
    """It has none, as n - 1 is 0. 0.9 0.9 + 0.1 0.5; exp(-0.36^2 / (2 0.04 / 4))."""
    algorithm = SoftMatch(num_classes=2, moments_decay=0.9, **BUILT_WITHOUT)
    before = {"mean": 0.9, "variance": 0.04, "probs_K": np.full(2, 0.5)}
    seen = next(_steps())._replace(step=7, weak_UK=jnp.array([[0.5, 0.5]]))
    targets, after = algorithm.targets(jax.tree.map(jnp.float32, before), seen)
    np.testing.assert_allclose(after["mean"], 0.86, rtol=1e-6)
    np.testing.assert_allclose(after["variance"], 0.04, rtol=1e-6)
    np.testing.assert_allclose(targets.weight_U, [0.0015338], rtol=1e-4)


def test_flexmatch_starts_at_zero_and_never_forgets():
    """As in USB: at step 0 every threshold is 0 and every example passes."""
    algorithm = KIN[0][0]
    seen = next(_steps())
    targets, state = algorithm.targets(algorithm.init_thresholds(), seen)
    assert targets.weight_U.min() == 1 and targets.threshold_K.max() == 0
    doubtful = seen._replace(weak_UK=np.full((U, K), 1 / K))
    _, after = algorithm.targets(state, doubtful)
    np.testing.assert_array_equal(after["class_N"], state["class_N"])
    assert (state["class_N"] >= 0).any()


def test_flexmatch_without_warmup_divides_by_the_largest_class():
    algorithm = FlexMatch(
        num_classes=K, num_unlabeled=N, threshold_warmup=False, **BUILT_WITHOUT
    )
    class_N = np.full(N, -1, np.int32)
    class_N[:6] = [0, 0, 0, 0, 1, 1]  # beta = 1, 1/2
    targets, _ = algorithm.targets({"class_N": jnp.array(class_N)}, next(_steps()))
    expected = [0.95, 0.5 / 1.5 * 0.95, 0, 0, 0]
    np.testing.assert_allclose(targets.threshold_K, expected, rtol=1e-6)


@pytest.mark.parametrize(("num_labeled", "expected"), [(6, 0.001), (300, 0.001)])
def test_dash_measures_what_the_warmed_up_network_loses(num_labeled, expected):
    """2.3 nats for 50 steps, then 0.001 for 50, in batches of 6: nothing is left of the
    first ones, of which a running mean at 0.99 keeps most."""
    dash = Dash(num_labeled=num_labeled, warmup_steps=100, **BUILT_WITHOUT)
    step, state, seen = jax.jit(dash.targets), dash.init_thresholds(), next(_steps())
    for i in range(110):
        loss_B = np.full(B, 2.3 if i < 50 else 0.001 if i < 100 else 9.0, np.float32)
        given = seen._replace(step=np.int32(i), loss_B=loss_B)
        targets, state = step(state, given)
    assert float(state["rho_hat"]) == pytest.approx(expected, rel=1e-6)
    # Which is below rho_min: Dash then is FixMatch at exp(-0.05).
    np.testing.assert_allclose(targets.threshold_K, 0.951229, rtol=1e-6)
    sure_U = seen.weak_UK.max(1) >= 0.951229
    np.testing.assert_array_equal(targets.weight_U, sure_U)


def test_dash_rests_while_it_measures():
    """3 labels in batches of 2: the last two steps of the warm-up see one network."""
    algorithm = Dash(
        num_labeled=3,
        warmup_steps=4,
        model=toy.Normalised(),
        tx=optax.sgd(0.1),
        views=WeakStrong(lambda x: x, lambda _, x: x, lambda _, x, rates: x),
    )
    batch = toy.batch([[2.0, 0.0], [0.0, 1.0]], [0, 1], np.ones((4, 2), np.float32))
    states, losses = [algorithm.init(jax.random.key(0), batch)], []
    step = jax.jit(algorithm.train_step)
    for i in range(5):
        other = {**batch, "image": batch["image"] * (1 + i)}
        state, metrics = step(states[-1], other, jax.random.key(i))
        states.append(state)
        losses.append(float(metrics["labeled_loss"].compute()))
    networks = [(s.params, s.model_state, s.extra["ema"]) for s in states]
    same = [
        all(map(np.array_equal, *map(jax.tree.leaves, pair)))
        for pair in itertools.pairwise(networks)
    ]
    assert same == [False, False, True, True, False]
    assert [int(state.step) for state in states] == [0, 1, 2, 3, 4, 5]
    rho_hat = float(states[-1].extra["thresholds"]["rho_hat"])
    assert losses[2] != losses[3]
    assert rho_hat == pytest.approx((losses[2] + losses[3]) / 2, rel=1e-5)


STRONG_UK = np.log(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]
).astype(np.float32)
THRESHOLDS = {
    "confidence": np.float32(0.5),
    "probs_K": np.array([0.5, 0.3, 0.2], np.float32),
    "histogram_K": np.array([0.4, 0.4, 0.2], np.float32),
}


def _fairness(strong_UK, weight_U, thresholds=THRESHOLDS):
    algorithm = FreeMatch(num_classes=3, fairness_weight=2.0, **BUILT_WITHOUT)
    weak_UK = jnp.eye(3)[jnp.array([0, 1, 1, 2])]
    targets = hard(weak_UK, jnp.asarray(weight_U), jnp.full(3, 0.5))
    return algorithm.regularizer(strong_UK, targets, thresholds)


def test_freematch_fairness_is_equation_11():
    # Kept are the first three: their strong views are predicted 0, 0 and 1.
    probs = [(0.7 + 0.6 + 0.2) / 3, (0.2 + 0.3 + 0.5) / 3]  # p-; class 2 has no count
    ratios = [probs[0] / (2 / 3), probs[1] / (1 / 3)]
    ours = [r / sum(ratios) for r in ratios] + [0.0]
    ratios = [0.5 / 0.4, 0.3 / 0.4, 0.2 / 0.2]
    expected = [r / sum(ratios) for r in ratios]
    fairness = sum(e * math.log(o + 1e-12) for e, o in zip(expected, ours, strict=True))
    kept = [1.0, 1.0, 1.0, 0.0]
    assert float(_fairness(STRONG_UK, kept)) == pytest.approx(2 * fairness, rel=1e-5)
    assert float(_fairness(STRONG_UK, [0.0] * 4)) == 0
    # The rejected image has no say; the kept ones have a gradient.
    slope_UK = jax.grad(_fairness)(jnp.asarray(STRONG_UK), kept)
    assert (jnp.abs(slope_UK[:3]).max(-1) > 1e-3).all()
    np.testing.assert_array_equal(slope_UK[3], 0)


def test_freematch_outlives_a_class_that_is_never_predicted():
    """Its running share gets to 0 in float32, by which its probability is divided."""
    histogram_K = np.array([0.6, 0.4, 0.0], np.float32)
    never = {**THRESHOLDS, "histogram_K": histogram_K}
    assert np.isfinite(_fairness(STRONG_UK, [1.0] * 4, never))


def test_uda_masks_at_0_8_and_sharpens_at_0_4():
    seen = next(_steps())
    row = seen.weak_UK[0].astype(np.float64)
    powers = row ** (1 / 0.4)
    targets, _ = UDA(**BUILT_WITHOUT).targets({}, seen)
    np.testing.assert_allclose(targets.target_UK[0], powers / powers.sum(), atol=1e-6)
    np.testing.assert_array_equal(targets.weight_U, seen.weak_UK.max(1) >= 0.8)


def test_sharpening_survives_low_temperatures():
    probs_UK = np.array([[0.6, 0.4, 0.0], [1.0, 0.0, 0.0]], np.float32)
    sharp_UK = sharpen(probs_UK, 0.001)  # 0.6 ** 1000 is 0 in float32
    np.testing.assert_allclose(sharp_UK, [[1, 0, 0], [1, 0, 0]], atol=1e-6)
