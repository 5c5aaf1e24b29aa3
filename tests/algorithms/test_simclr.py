"""SimCLR and SupCon against float64 transcriptions, and across devices."""

import dataclasses

import jax
import numpy as np
import pytest

import two_halves
from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.simclr import SimCLR
from ssl_jax.algorithms.supcon import SupCon
from two_halves import encode, mlp, normalised_mlp, unit


def nt_xent(first, second, temperature):
    """Algorithm 1 of the paper, pair by pair: z_2k-1 and z_2k are views of image k."""
    z = np.stack([unit(first), unit(second)], 1).reshape(2 * len(first), -1)
    s = z @ z.T

    def of(i, j):
        others = [np.exp(s[i, k] / temperature) for k in range(len(z)) if k != i]
        return -np.log(np.exp(s[i, j] / temperature) / sum(others))

    pairs = range(0, len(z), 2)
    return sum(of(k, k + 1) + of(k + 1, k) for k in pairs) / len(z)


def out_loss(first, second, labels, temperature):
    """L_out^sup, eq. 2, view by view; a mean over them as in the authors' code."""
    z, labels = unit(np.concatenate([first, second])), np.tile(labels, 2)
    s, total = z @ z.T / temperature, 0.0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        below = sum(np.exp(s[i, a]) for a in others)
        positives = [p for p in others if labels[p] == labels[i]]
        logs = [np.log(np.exp(s[i, p]) / below) for p in positives]
        total += -sum(logs) / len(positives)
    return total / len(z)


def started(algorithm, given):
    state = algorithm.init(jax.random.key(0), given)
    return state.replace(params=two_halves.moved(state.params, 1))


def test_one_update_is_simclrs():
    given = two_halves.batch(8)
    algorithm = two_halves.build(SimCLR, temperature=0.5)
    views = two_halves.halves(given)

    def loss(params):
        z = [normalised_mlp(encode(x, params), params["projector"]) for x in views]
        return nt_xent(*z, 0.5)

    state = started(algorithm, given)
    after, metrics = two_halves.assert_one_update_is(
        algorithm, state, given, loss, {"encoder", "projector"}
    )
    assert metrics["objective"].compute() == pytest.approx(metrics["loss"].compute())
    assert after.params["projector"]["BatchNorm_0"].keys() == {"scale"}
    assert after.params.keys() == {"encoder", "projector", "head"}


def test_one_update_is_supcons():
    given = two_halves.batch(8)
    labels = np.array([0, 1, 2, 0, 0, 1, 1, 0], np.int32)  # one class of one image
    given["label"] = labels
    algorithm = two_halves.build(SupCon, temperature=0.5)
    views = two_halves.halves(given)

    def loss(params):
        features = [encode(x, params) for x in views]
        z = [mlp(x, params["projector"]) for x in features]
        return out_loss(*z, labels, 0.5)

    # The head learns, too: its loss is beside, and sends no gradient back.
    model = algorithm.model.clone(num_classes=0)
    alone = dataclasses.replace(algorithm, model=model)
    two_halves.assert_one_update_is(
        alone, started(alone, given), given, loss, {"encoder", "projector"}
    )
    step = jax.jit(algorithm.train_step)
    after, metrics = step(started(algorithm, given), given, jax.random.key(0))
    assert metrics["accuracy"].count == 8
    assert metrics["loss"].compute() > metrics["objective"].compute()


def test_a_class_of_one_image_each_is_simclr():
    """So the two transcriptions agree as well."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 6, 4))
    assert out_loss(first, second, np.arange(6), 0.1) == pytest.approx(
        nt_xent(first, second, 0.1)
    )


def test_padding_is_compared_with_nothing():
    """Shares are those among the images, whatever stands in the rows after them."""
    z = np.random.default_rng(1).normal(size=(2, 8, 6)).astype(np.float32)
    padded = joint_embedding.log_shares(*z, 0.5, np.arange(8) < 5)
    alone = joint_embedding.log_shares(*z[:, :5], 0.5)
    for with_rows, without in zip(padded, alone, strict=True):
        kept = np.exp(with_rows)[:5]
        columns = np.r_[0:5, 8:13]
        np.testing.assert_allclose(kept[:, columns], np.exp(without), atol=1e-6)
        assert kept.sum() == pytest.approx(5, abs=1e-5)
