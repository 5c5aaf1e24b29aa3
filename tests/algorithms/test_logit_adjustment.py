"""Logit adjustment on FixMatch against a transcription in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.logit_adjustment import LogitAdjustment
from ssl_jax.augment.weak_strong import WeakStrong

LABELED_BK = np.array([[2.0, 0.0, 0.5], [0.0, 1.0, -1.0], [0.3, 0.1, 0.2]])
UNLABELED_UK = np.array([[4.0, 0.0, 1.0], [0.0, 2.0, 1.0], [1.0, 0.0, 3.0]])
LABELS = [0, 2, 1]
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.5])
def test_loss_and_update_are_the_papers(tau):
    views = WeakStrong(
        plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x, rates: x[..., ::-1]
    )
    algorithm = LogitAdjustment(
        model=toy.Pixels(),
        tx=optax.sgd(0.1),
        views=views,
        labeled_K=(90, 9, 1),
        tau=tau,
        threshold=0.8,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, jax.random.key(1))
    prior = np.array([0.9, 0.09, 0.01])

    def terms(params):
        weighed = np.exp(params["weight"] * LABELED_BK) * prior**tau
        said = weighed / weighed.sum(1, keepdims=True)
        labeled = -np.log(said[np.arange(3), LABELS]).mean()
        weak = toy.softmax(UNLABELED_UK)  # of the network as it is: a constant
        strong = np.log(toy.softmax(params["weight"] * UNLABELED_UK[:, ::-1]))
        kept, label = weak.max(1) >= 0.8, weak.argmax(1)
        return labeled, -(strong[np.arange(3), label] * kept).mean()

    params = {"weight": np.float64(1)}
    ours = [
        float(metrics[f"{name}_loss"].compute()) for name in ("labeled", "unlabeled")
    ]
    assert ours == pytest.approx(terms(params), rel=1e-5)
    assert 0 < float(metrics["share_kept"].compute()) < 1
    expected = toy.descended(lambda p: sum(terms(p)), params, 0.1)
    np.testing.assert_allclose(after.params["weight"], expected["weight"], rtol=1e-5)
    # It is judged without the adjustment.
    said = algorithm.predict(after, BATCH)
    weight = after.extra["ema"]["weight"]
    np.testing.assert_allclose(said, weight * jnp.float32(LABELED_BK), rtol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_a_class_without_labels_is_no_warning_and_no_nan(tau):
    algorithm = LogitAdjustment(
        model=toy.Pixels(), tx=optax.sgd(0.1), views=None, labeled_K=(3, 0, 1), tau=tau
    )
    logits_BK = np.float32(LABELED_BK[:2])
    weighed = np.exp(logits_BK) * np.array([0.75, 0.0, 0.25]) ** tau
    expected = -np.log(weighed[[0, 1], [0, 2]] / weighed.sum(1))
    loss_B = algorithm.labeled_loss(logits_BK, np.array([0, 2]))
    np.testing.assert_allclose(loss_B, expected, rtol=1e-5)
