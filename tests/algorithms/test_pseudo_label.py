"""Pseudo-Label, Pi-Model and Mean Teacher: their losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.mean_teacher import MeanTeacher
from ssl_jax.algorithms.pi_model import PiModel
from ssl_jax.algorithms.pseudo_label import PseudoLabel
from ssl_jax.augment import weak_strong
from ssl_jax.augment.weak_strong import WeakStrong

LABELED_BK = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
UNLABELED_UK = np.array([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 5.0]], np.float32)
BATCH = toy.batch(LABELED_BK, [0, 0], UNLABELED_UK)
LABELED = -np.log(np.exp(LABELED_BK) / np.exp(LABELED_BK).sum(1)[:, None])[:, 0].mean()


def _build(algorithm, weak, **fields):
    views = WeakStrong(plain=lambda x: x, weak=weak, strong=None)
    fields = {"model": toy.Pixels(), **fields}
    return algorithm(tx=optax.sgd(0.1), views=views, total_steps=100, **fields)


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (10, 0.25), (40, 1.0)])
def test_pseudo_label_masks_and_warms_up(step, weight):
    """The [U] loss is masked; a [U, 1] mask would average it (.45 instead of .0063)."""
    algorithm = _build(PseudoLabel, lambda _, x: x, threshold=0.9, unlabeled_weight=2.0)
    state = algorithm.init(jax.random.key(0), BATCH)
    state = state.replace(step=jnp.int32(step))
    _, metrics = algorithm.train_step(state, BATCH, jax.random.key(1))
    # Sure enough at 0.9: softmax(4, 0) = .982 and (0, 5) = .993.
    probs = toy.softmax(UNLABELED_UK)
    unlabeled = (-np.log(probs[0, 0]) - np.log(probs[3, 1])) / 4
    means = {
        name: float(metrics[name].compute())
        for name in ("loss", "labeled_loss", "unlabeled_loss", "share_kept")
    }
    assert means["labeled_loss"] == pytest.approx(LABELED)
    assert means["unlabeled_loss"] == pytest.approx(unlabeled, rel=1e-5)
    assert means["loss"] == pytest.approx(LABELED + 2 * weight * unlabeled)
    assert means["share_kept"] == 0.5
    assert float(metrics["kept_accuracy"].compute()) == 1
    assert float(metrics["rejected_accuracy"].compute()) == 0.5


def _moved(key, x):
    """Views that differ, in a way that is known: every key has its own shift."""
    return x + jax.random.uniform(key) * jnp.array([1.0, 0.0])[None, None, None]


@pytest.mark.parametrize("algorithm", [PiModel, MeanTeacher])
@pytest.mark.parametrize(("step", "risen"), [(0, np.exp(-5)), (20, np.exp(-1.25))])
def test_consistency_is_the_mean_square_and_its_weight_rises(algorithm, step, risen):
    algorithm = _build(algorithm, _moved, consistency_weight=3.0)
    state = algorithm.init(jax.random.key(0), BATCH)
    # A teacher that is not the network: its weight is 2.
    ema = {"ema": {"weight": jnp.array(2.0)}}
    state = state.replace(step=jnp.int32(step), extra=ema)
    key = jax.random.key(1)
    after, metrics = algorithm.train_step(state, BATCH, key)
    shift_x, shift_u, shift_target = (
        float(jax.random.uniform(k)) for k in jax.random.split(key, 3)
    )
    one = np.array([1.0, 0.0])
    teacher = 2 if isinstance(algorithm, MeanTeacher) else 1

    def loss(weight):
        x = toy.softmax(weight * (LABELED_BK + shift_x * one))
        ours = toy.softmax(weight * (UNLABELED_UK + shift_u * one))
        target = toy.softmax(
            teacher * (UNLABELED_UK + shift_target * one)
        )  # a constant
        consistency = ((ours - target) ** 2).mean()
        return -np.log(x[:, 0]).mean() + 3 * risen * consistency

    assert float(metrics["loss"].compute()) == pytest.approx(loss(1.0), rel=1e-5)
    slope = (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5
    moved = float(after.params["weight"]) - 1
    assert moved == pytest.approx(-0.1 * slope, rel=1e-3, abs=1.2e-7)


@pytest.mark.parametrize("algorithm", [PseudoLabel, PiModel, MeanTeacher])
def test_labeled_images_alone_move_the_batch_norm_averages(algorithm):
    """`seen`: one batch of 2; joined with the unlabeled ones it would be of 6."""
    algorithm = _build(algorithm, lambda _, x: x)
    state = algorithm.init(jax.random.key(0), BATCH)
    after, _ = algorithm.train_step(state, BATCH, jax.random.key(1))
    assert int(after.model_state["batch_stats"]["seen"]) == 2


@pytest.mark.parametrize("algorithm", [PiModel, MeanTeacher])
def test_two_identical_views_cost_nothing(algorithm):
    """BatchNorm must not see the labeled images beside one of the views: joined, they
    cost 0.0021 on digits."""
    weak = weak_strong.build(weak="none").weak
    algorithm = _build(algorithm, weak, model=toy.Normalised())
    state = algorithm.init(jax.random.key(0), BATCH)
    _, metrics = algorithm.train_step(state, BATCH, jax.random.key(1))
    assert float(metrics["unlabeled_loss"].compute()) == 0
