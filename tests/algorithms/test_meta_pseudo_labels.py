"""Meta Pseudo Labels against a transcription of its paper's algorithm 1, and of the
authors' mean of h, in NumPy, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.meta_pseudo_labels import DRAWN, MetaPseudoLabels
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core.losses import soft_cross_entropy_per_example
from ssl_jax.models import Classifier

B, U, K = 4, 6, 3  # a toy's features are its pixels
RATE, MOMENTUM, THRESHOLD = 0.05, 0.9, 0.6
RNG = np.random.default_rng(3)
LABELED_BK, UNLABELED_UK = (
    2 * RNG.normal(size=(n, K)).astype(np.float32).astype(float) for n in (B, U)
)
LABELS = [0, 2, 1, 1]
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))
STRONG_UK = UNLABELED_UK[:, ::-1] + 0.5


def _build(rate, momentum, **fields):
    views = WeakStrong(
        plain=lambda x: x,
        weak=lambda _, x: x,
        strong=lambda _, x: x[..., ::-1] + 0.5,
    )
    model, tx = Classifier(toy.Pixels(), K), optax.sgd(rate, momentum=momentum)
    return MetaPseudoLabels(model=model, tx=tx, views=views, **fields)


def _double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def _logits(params, x):
    head = params["head"]
    return params["encoder"]["weight"] * x @ head["kernel"] + head["bias"]


def _loss(params, x, target):
    """Mean cross-entropy with labels, or with distributions, of which 0 counts 0."""
    target = np.eye(K)[target] if np.ndim(target) == 1 else target
    return -(np.log(toy.softmax(_logits(params, x))) * target).sum(1).mean()


def _smooth(labels):
    return 0.85 * np.eye(K)[labels] + 0.15 / K


def _slope(loss, params):
    return jax.tree.map(np.subtract, params, toy.descended(loss, params, 1.0))


def _moved(loss, params, velocity):
    """By SGD with momentum."""
    velocity = jax.tree.map(
        lambda v, g: MOMENTUM * v + g, velocity, _slope(loss, params)
    )
    return jax.tree.map(lambda p, v: p - RATE * v, params, velocity), velocity


def _step(student, teacher, velocities, mean_h, key):
    """((student, teacher, velocities, mean of h) after a step, what metrics say)."""
    # Gumbel's way of drawing: the key's numbers, but the transcription's logits.
    noise = jax.random.gumbel(jax.random.fold_in(key, DRAWN), (U, K))
    drawn = (_logits(teacher, STRONG_UK) + np.asarray(noise, np.float64)).argmax(1)
    weak = toy.softmax(_logits(teacher, UNLABELED_UK))
    kept = weak.max(1) >= THRESHOLD
    sharp = weak ** (1 / 0.7)
    sharp = sharp / sharp.sum(1, keepdims=True) * kept[:, None]

    def of_student(params):
        return _loss(params, STRONG_UK, _smooth(drawn))

    after, velocity_s = _moved(of_student, student, velocities[0])
    losses = [_loss(params, LABELED_BK, LABELS) for params in (student, after)]
    h = losses[0] - losses[1]
    mean_h = 0.7 * mean_h + 0.3 * h

    def terms(params):
        labeled = _loss(params, LABELED_BK, _smooth(LABELS))
        return labeled, _loss(params, STRONG_UK, sharp), _loss(params, STRONG_UK, drawn)

    def of_teacher(params):
        return np.dot(terms(params), (1, 2, h - mean_h))

    moved, velocity_t = _moved(of_teacher, teacher, velocities[1])
    said = {
        "loss": of_student(student),
        "teacher_loss": of_teacher(teacher),
        "teacher_labeled_loss": terms(teacher)[0],
        "unlabeled_loss": terms(teacher)[1],
        "labeled_loss": losses[0],
        "labeled_loss_after": losses[1],
        "share_kept": kept.mean(),
    }
    return (after, moved, (velocity_s, velocity_t), mean_h), said


def test_losses_and_both_updates_are_the_papers():
    """For two steps, so that velocities and the mean of h come along."""
    fields = dict(threshold=THRESHOLD, unlabeled_weight=2.0, mean_decay=0.7)
    algorithm = _build(RATE, MOMENTUM, **fields)
    state = algorithm.init(jax.random.key(0), BATCH)
    step = jax.jit(algorithm.train_step)
    student, teacher = map(_double, (state.params, state.extra["teacher"]["params"]))
    assert not np.array_equal(student["head"]["kernel"], teacher["head"]["kernel"])
    zeros = jax.tree.map(np.zeros_like, student)
    expected = (student, teacher, (zeros, zeros), 0.0)
    for number in (1, 2):
        key = jax.random.key(number)
        state, metrics = step(state, BATCH, key)
        expected, said = _step(*expected, key)
        ours = {name: float(metrics[name].compute()) for name in said}
        assert ours == pytest.approx(said, rel=1e-5)
        assert abs(said["labeled_loss"] - said["labeled_loss_after"]) > 0.01
        assert 0 < said["share_kept"] < 1
        both = (state.params, state.extra["teacher"]["params"])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            both,
            expected[:2],
        )
        assert float(state.extra["mean_h"]) == pytest.approx(expected[3], rel=1e-4)
        if number == 1:  # labeled images move no moments
            seen = [s["batch_stats"]["encoder"]["seen"] for s in _moments(state)]
            assert list(map(int, seen)) == [U, B + 2 * U]


def _moments(state):
    return state.model_state, state.extra["teacher"]["model_state"]


def test_h_is_the_papers_product_of_slopes_to_first_order():
    """h = rate <slope of the labeled loss, slope of that of the pseudo-labels>."""
    state = _build(RATE, 0.0).init(jax.random.key(0), BATCH)
    key, rate = jax.random.key(1), 1e-2
    _, metrics = jax.jit(_build(rate, 0.0).train_step)(state, BATCH, key)
    h = float(
        metrics["labeled_loss"].compute() - metrics["labeled_loss_after"].compute()
    )

    student, teacher = map(_double, (state.params, state.extra["teacher"]["params"]))
    noise = jax.random.gumbel(jax.random.fold_in(key, DRAWN), (U, K))
    drawn = (_logits(teacher, STRONG_UK) + np.asarray(noise)).argmax(1)
    slopes = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slope)])
        for slope in (
            _slope(lambda p: _loss(p, LABELED_BK, LABELS), student),
            _slope(lambda p: _loss(p, STRONG_UK, _smooth(drawn)), student),
        )
    ]
    assert h == pytest.approx(rate * np.dot(*slopes), rel=0.05)


def test_what_the_teacher_says_itself_teaches_it_nothing():
    """Why labels are drawn: the cross-entropy with its own softmax has no slope."""

    def loss(logits_UK):
        said_UK = jax.lax.stop_gradient(jax.nn.softmax(logits_UK))
        return soft_cross_entropy_per_example(logits_UK, said_UK).sum()

    slope = jax.grad(loss)(jnp.float32(UNLABELED_UK))
    np.testing.assert_allclose(slope, 0, atol=1e-6)
