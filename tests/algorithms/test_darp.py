"""DARP against a transcription of its authors' code in NumPy, in double precision:
bbuing9/DARP, common.py (`estimate_pseudo`, `opt_solver`) and training_functions.py
(`train_fix`) at 64a94b4, each class's equation solved to the end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq

import toy
from ssl_jax.algorithms.darp import DARP
from ssl_jax.augment.weak_strong import WeakStrong

B, U, K, N = 3, 5, 3, 9
RNG = np.random.default_rng(0)
LABELED_BK = RNG.normal(size=(B, K)).astype(np.float32).astype(float)
UNLABELED_UK = 2 * RNG.normal(size=(U, K)).astype(np.float32).astype(float)
LABELS, INDEX = [0, 2, 1], [7, 0, 4, 2, 8]
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))
BATCH["unlabeled_index"] = jnp.array(INDEX)
COUNTS = np.array([6, 2, 1])
WANTED = N * COUNTS / COUNTS.sum()


def _refined(probs):
    mask, sums = np.zeros((N, K)), np.zeros(K)
    for i in range(K):
        first = np.argsort(-probs[:, i])[: int(1.5 * WANTED[i])]
        mask[first, i], sums[i] = 1, probs[first, i].sum()
    scaled = probs * mask * ((WANTED + 1e-6) / (sums + 1e-6)) + 1e-6
    probs = scaled / scaled.sum(1, keepdims=True)

    w = 1 / -(probs * np.log(probs + 1e-6)).sum(1)
    A = probs / np.e
    Y = np.exp(-1 / w[:, None] * np.ones(K))
    for _ in range(10):
        X = 1 / (A * Y).sum(1)
        nu = [
            brentq(
                lambda nu, i=i, X=X: (A[:, i] * X * np.exp(-nu / w)).sum() - WANTED[i],
                *(-300, 300),
                xtol=1e-12,
            )
            for i in range(K)
        ]
        Y = np.exp(-np.array(nu) / w[:, None])
    X = 1 / (A * Y).sum(1)
    return A * X[:, None] * Y


def _build(counts=COUNTS):
    views = WeakStrong(
        plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x, rates: x[..., ::-1]
    )
    return DARP(
        model=toy.Pixels(),
        tx=optax.sgd(0.1),
        views=views,
        labeled_K=tuple(counts),
        num_unlabeled=N,
        total_steps=100,
        warmup=0.2,
        likely=1.5,
        threshold=0.7,
    )


@pytest.mark.parametrize("step", [19, 20, 34, 40])
def test_loss_update_and_memory_are_the_authors(step):
    """Before the warm-up's end, at it, and between and at refinements later."""
    algorithm = _build()
    state = algorithm.init(jax.random.key(0), BATCH)
    probs, before = (RNG.dirichlet(np.full(K, 0.5), size=N) for _ in range(2))
    probs = 0.02 / K + 0.98 * probs
    given = {"probs_NK": jnp.float32(probs), "refined_NK": jnp.float32(before)}
    state = state.replace(
        step=jnp.int32(step), extra={**state.extra, "thresholds": given}
    )
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, jax.random.key(1))

    said = toy.softmax(UNLABELED_UK)
    probs[INDEX] = said
    refined = _refined(probs) if step in (20, 40) else before
    thresholds = after.extra["thresholds"]
    np.testing.assert_allclose(thresholds["probs_NK"], probs, atol=1e-6)
    np.testing.assert_allclose(thresholds["refined_NK"], refined, atol=1e-5)
    if step in (20, 40):  # it is in the labels' proportions, where it was not
        np.testing.assert_allclose(refined.sum(0), WANTED, atol=0.15)
        assert abs(probs.sum(0) - WANTED).max() > 1
    target = said if step < 20 else refined[INDEX]
    label, kept = target.argmax(1), target.max(1) >= 0.7
    assert 0 < kept.sum() < U

    def terms(params):
        labeled = np.log(toy.softmax(params["weight"] * LABELED_BK))
        strong = np.log(toy.softmax(params["weight"] * UNLABELED_UK[:, ::-1]))
        unlabeled = strong[np.arange(U), label] * kept
        return -labeled[np.arange(B), LABELS].mean(), -unlabeled.mean()

    params = {"weight": np.float64(1)}
    names = ("labeled_loss", "unlabeled_loss")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms(params), rel=1e-5)
    expected = toy.descended(lambda p: sum(terms(p)), params, 0.1)
    np.testing.assert_allclose(after.params["weight"], expected["weight"], rtol=1e-5)


def test_sure_predictions_are_moved_too():
    """Whose entropy is next to nothing: no multiplier is lost to rounding."""
    rng = np.random.default_rng(1)
    probs = toy.softmax(30 * rng.normal(size=(N, K)))
    refined = np.asarray(jax.jit(_build().refined)(jnp.float32(probs)))
    assert np.isfinite(refined).all()
    np.testing.assert_allclose(refined.sum(1), 1, rtol=1e-5)
    before = abs(probs.sum(0) - WANTED).max()
    assert abs(refined.sum(0) - WANTED).max() < before


def test_a_class_without_labels_has_no_images_and_costs_the_others_none():
    probs = np.random.default_rng(2).dirichlet(np.full(K, 0.5), size=N)
    refined = np.asarray(jax.jit(_build([6, 0, 3]).refined)(jnp.float32(probs)))
    np.testing.assert_allclose(refined.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(refined.sum(0), [6, 0, 3], atol=0.1)
