"""ABC against a transcription of its authors' step in NumPy, in double precision:
LeeHyuck/ABC, ABCcode0920/ABCfix.py (`train`) at f70e926, with one strong view."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.abc import ABC, MASKS
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.models import Classifier

B, U, K = 6, 12, 3  # D = K: a toy's features are its pixels
RNG = np.random.default_rng(0)
LABELED_BK = RNG.normal(size=(B, K)).astype(np.float32).astype(float)
UNLABELED_UK = 3 * RNG.normal(size=(U, K)).astype(np.float32).astype(float)
LABELS = [0, 0, 1, 0, 2, 1]
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))
COUNTS = np.array([40, 8, 4])


def _logits(params, head, x):
    features = params["encoder"]["weight"] * x
    return features @ params[head]["kernel"] + params[head]["bias"]


def _losses(params, weak, head, counts_B, counts_U):
    """Of one head, (labeled, unlabeled, share kept): the weak views' probabilities are
    constants, and the second head's targets as they are."""
    labeled = np.log(toy.softmax(_logits(params, head, LABELED_BK)))
    strong = np.log(toy.softmax(_logits(params, head, UNLABELED_UK[:, ::-1])))
    target, kept = weak[head], (weak[head].max(1) >= 0.7) * counts_U
    if head == "head":
        target = np.eye(K)[target.argmax(1)]
    return (
        -(labeled[np.arange(B), LABELS] * counts_B).mean(),
        -((target * strong).sum(1) * kept).mean(),
        kept.mean(),
    )


@pytest.mark.parametrize(("step", "weak_gradient"), [(0, True), (60, False)])
def test_loss_and_update_are_the_papers(step, weak_gradient):
    views = WeakStrong(
        plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x, rates: x[..., ::-1]
    )
    algorithm = ABC(
        model=Classifier(toy.Pixels(), K),
        tx=optax.sgd(0.1),
        views=views,
        labeled_K=tuple(COUNTS),
        total_steps=100,
        threshold=0.7,
        unlabeled_weight=2.0,
        balanced_weight=0.5,
        weak_gradient=weak_gradient,
    )
    state = algorithm.init(jax.random.key(0), BATCH).replace(step=jnp.int32(step))
    key = jax.random.key(1)
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, key)

    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    weak = {
        head: toy.softmax(_logits(params, head, UNLABELED_UK))
        for head in ("head", "balanced_head")
    }
    shares = COUNTS.min() / COUNTS
    key_x, key_u = jax.random.split(jax.random.fold_in(key, MASKS))
    counts_B = np.array(jax.random.uniform(key_x, (B,))) < shares[LABELS]
    now = 1 - step / 100 * (1 - shares)
    chance_U = now[weak["balanced_head"].argmax(1)]
    counts_U = np.array(jax.random.uniform(key_u, (U,))) < chance_U
    assert 0 < counts_B.sum() < B  # some of the frequent classes do not count
    assert counts_U.all() == (step == 0)

    def terms(params):
        of_classifier = _losses(params, weak, "head", 1, 1)
        return of_classifier, _losses(params, weak, "balanced_head", counts_B, counts_U)

    def loss(params):
        (labeled, unlabeled, _), (balanced, balanced_u, _) = terms(params)
        return labeled + 2 * unlabeled + 0.5 * (balanced + 2 * balanced_u)

    names = ("labeled_loss", "unlabeled_loss", "share_kept")
    for prefix, expected in zip(("", "balanced_"), terms(params), strict=True):
        ours = [float(metrics[f"{prefix}{name}"].compute()) for name in names]
        assert ours == pytest.approx(expected, rel=1e-5)
        assert 0 < expected[-1] < 1
    assert float(metrics["loss"].compute()) == pytest.approx(loss(params), rel=1e-5)
    expected = toy.descended(loss, params, 0.1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.params,
        expected,
    )
    said = algorithm.predict(after, BATCH)
    teacher = jax.tree.map(np.asarray, after.extra["ema"])
    expected = _logits(teacher, "balanced_head", LABELED_BK)
    np.testing.assert_allclose(said, expected, rtol=1e-5)


def test_a_class_without_labels_counts_whole_and_is_not_the_rarest():
    algorithm = ABC(
        model=Classifier(toy.Pixels(), 4),
        tx=optax.sgd(0.1),
        views=None,
        labeled_K=(40, 0, 8, 4),
        total_steps=100,
    )
    np.testing.assert_allclose(algorithm.counting_K, [0.1, 1, 0.5, 1])
