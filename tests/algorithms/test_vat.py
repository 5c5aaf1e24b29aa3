"""VAT against a transcription of its paper in NumPy, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms import vat
from ssl_jax.algorithms.vat import VAT
from ssl_jax.augment.weak_strong import WeakStrong

KEY = jax.random.key(1)
LABELED_BK = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]], np.float32)
UNLABELED_UK = np.array(
    [[1.5, 0.0, -0.5], [0.0, 2.0, 1.0], [1.0, 0.5, 0.0], [-1.0, 0.0, 0.3]], np.float32
)
BATCH = toy.batch(LABELED_BK, [0, 2], UNLABELED_UK)
LABELED_BK, UNLABELED_UK = LABELED_BK.astype(float), UNLABELED_UK.astype(float)


def _build(**fields):
    views = WeakStrong(plain=lambda x: x, weak=lambda _, x: x, strong=None)
    fields = {"total_steps": 100, "model": toy.Pixels(), **fields}
    return VAT(tx=optax.sgd(0.1), views=views, **fields)


def _direction(d):
    return d / np.sqrt((d**2).sum(-1, keepdims=True))


def _divergence(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


def _perturbation(weight, d, *, epsilon, xi, iterations):
    """Algorithm 1, of logits that are weight * pixels: of the divergence of p
    from q = softmax(weight * (x + r)) the slope by r is weight * (q - p)."""
    p = toy.softmax(weight * UNLABELED_UK)
    for _ in range(iterations):
        moved = weight * (UNLABELED_UK + xi * _direction(d))
        d = weight * (toy.softmax(moved) - p)
    return epsilon * _direction(d)


@pytest.mark.parametrize(("step", "iterations"), [(0, 1), (10, 1), (40, 2)])
def test_loss_and_update_are_the_papers(step, iterations):
    algorithm = _build(
        epsilon=1.2,
        xi=0.2,
        power_iterations=iterations,
        unlabeled_weight=2.0,
        entropy_weight=0.3,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    state = state.replace(step=jnp.int32(step))
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, KEY)

    drawn = jax.random.normal(jax.random.fold_in(KEY, 2), (4, 1, 1, 3))
    d = np.asarray(drawn, np.float64)[:, 0, 0]
    change = _perturbation(1.0, d, epsilon=1.2, xi=0.2, iterations=iterations)
    clean = toy.softmax(UNLABELED_UK)  # theta-hat's: a constant

    def terms(weight):
        labeled = -np.log(toy.softmax(weight * LABELED_BK)[[0, 1], [0, 2]]).mean()
        moved = toy.softmax(weight * (UNLABELED_UK + change))
        own = toy.softmax(weight * UNLABELED_UK)
        entropy = -(own * np.log(own)).sum(-1).mean()
        return labeled, _divergence(clean, moved).mean(), entropy

    def loss(weight):
        labeled, divergence, entropy = terms(weight)
        return labeled + 2 * step / 40 * divergence + 0.3 * entropy

    names = ("labeled_loss", "unlabeled_loss", "entropy")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms(1.0), rel=1e-5)
    assert float(metrics["loss"].compute()) == pytest.approx(loss(1.0), rel=1e-5)
    slope = (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5
    assert float(after.params["weight"]) == pytest.approx(1 - 0.1 * slope, rel=1e-5)
    # The labeled images alone move the averages of BatchNorm: one batch of 2.
    assert int(after.model_state["batch_stats"]["seen"]) == 2


def test_power_method_finds_where_a_prediction_is_moved_most():
    """The first eigenvector of the divergence's Hessian, diag(p) - p p^T."""
    algorithm = _build(power_iterations=12, epsilon=0.5, xi=0.01)
    state = algorithm.init(jax.random.key(0), BATCH)
    perturb = jax.jit(algorithm.perturbation)
    logits_UK = jnp.asarray(UNLABELED_UK, jnp.float32)
    changes = perturb(state, BATCH["unlabeled_image"], logits_UK, KEY)
    for change, logits in zip(np.asarray(changes)[:, 0, 0], UNLABELED_UK, strict=True):
        p = toy.softmax(logits)
        _, vectors = np.linalg.eigh(np.diag(p) - np.outer(p, p))
        assert np.linalg.norm(change) == pytest.approx(0.5, rel=1e-5)
        assert abs(change @ vectors[:, -1]) == pytest.approx(0.5, rel=1e-2)


def test_length_is_taken_of_slopes_that_float32_cannot_square():
    small = 1e-25 * np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    ours = vat.unit_length(jnp.asarray(small)[:, None, None])
    np.testing.assert_allclose(ours[:, 0, 0], [[0.6, 0.8], [0, 0]], rtol=1e-5)
