"""SequenceMatch against a transcription of its author's step in NumPy, in double
precision: beandkay/SequenceMatch, models/sequencematch/sequencematch.py (`train`) and
sequencematch_utils.py, models/uda/uda_utils.py (`consistency_loss`) at 4f322bb."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.sequencematch import SequenceMatch
from ssl_jax.augment.weak_strong import WeakStrong

B, U, K, N = 3, 6, 3, 9
RNG = np.random.default_rng(5)
LABELED_BK, UNLABELED_UK = (
    2 * RNG.normal(size=(n, K)).astype(np.float32).astype(float) for n in (B, U)
)
LABELS = [0, 2, 1]
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))


def _strong(key, x, rates, part=1.0):
    return x + part * jnp.array([[[[0.5, -1.0, 0.0]]]])


@pytest.mark.parametrize("weak_gradient", [True, False])
def test_loss_and_update_are_the_authors(weak_gradient):
    views = WeakStrong(plain=lambda x: x, weak=lambda _, x: x, strong=_strong)
    algorithm = SequenceMatch(
        model=toy.Pixels(),
        tx=optax.sgd(0.1),
        views=views,
        num_classes=K,
        num_unlabeled=N,
        threshold=0.8,
        unlabeled_weight=2.0,
        sequence_weight=0.7,
        medium=0.25,
        weak_gradient=weak_gradient,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    # Of class 0 are 5 images that were sure of it, of 1 and 2 are 3 and 1.
    given = {"class_N": jnp.array([0, 1, 0, 0, 2, 1, 0, 1, 0], jnp.int32)}
    state = state.replace(extra={**state.extra, "thresholds": given})
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, jax.random.key(1))

    def logits(weight, part):
        return weight * (UNLABELED_UK + part * np.array([0.5, -1.0, 0.0]))

    weak, medium = logits(1, 0), logits(1, 0.25)  # as targets: constants
    probs = toy.softmax(weak)
    learned = np.array([5, 3, 1]) / 5
    label = probs.argmax(1)
    kept = probs.max(1) >= (0.8 * learned / (2 - learned))[label]
    assert (probs.max(1) >= 0.8).sum() < kept.sum() < U  # by FlexMatch's thresholds

    def unlike(said, target):
        sure = toy.softmax(target).max(1) >= 0.8
        assert 0 < sure.sum() < U
        target, said = toy.softmax(target / 0.5), toy.softmax(said)
        return ((target * (np.log(target) - np.log(said))).sum(1) * sure).mean()

    def terms(params):
        weight = params["weight"]
        labeled = np.log(toy.softmax(weight * LABELED_BK))[np.arange(B), LABELS]
        strong = logits(weight, 1)
        unlabeled = np.log(toy.softmax(strong))[np.arange(U), label] * kept
        sequence = unlike(logits(weight, 0.25), weak)
        sequence += unlike(strong, medium) + unlike(strong, weak)
        return -labeled.mean(), -unlabeled.mean(), sequence

    def loss(params):
        return np.dot(terms(params), (1, 2, 2 * 0.7))

    params = {"weight": np.float64(1)}
    names = ("labeled_loss", "unlabeled_loss", "sequence_loss")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms(params), rel=1e-5)
    assert float(metrics["loss"].compute()) == pytest.approx(loss(params), rel=1e-5)
    expected = toy.descended(loss, params, 0.1)
    np.testing.assert_allclose(after.params["weight"], expected["weight"], rtol=1e-5)
    seen = after.model_state["batch_stats"]["seen"]
    assert int(seen) == (B + 3 * U if weak_gradient else 100 * U + B + 2 * U)
