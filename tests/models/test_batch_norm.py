"""BatchNorm's running moments, and a teacher that has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import teachers
from ssl_jax import models
from ssl_jax.core import named
from ssl_jax.models.shared.batch_norm import BatchNorm

X_BC = np.random.default_rng(0).normal(2, 0.03, (8, 3)).astype(np.float32)


def _passes(norm, count):
    """(what the last of so many passes over X_BC gives, batch_stats after it)."""
    variables = norm.init(jax.random.key(0), X_BC)
    params, stats = variables["params"], variables["batch_stats"]
    for _ in range(count):
        y_BC, moved = norm.apply(
            {"params": params, "batch_stats": stats}, X_BC, mutable=["batch_stats"]
        )
        stats = moved["batch_stats"]
    return y_BC, stats


def test_moments_by_hand():
    """Momenta of .1, 2/11 and 3/12 leave .1 * 2/11 * 3/12 = .0045 of the initial mean
    0 and variance 1; one of .999 leaves .997."""
    norm = BatchNorm(use_running_average=False, momentum=0.999)
    y_BC, stats = _passes(norm, 3)
    left = 0.1 * 2 / 11 * 3 / 12
    np.testing.assert_allclose(stats["mean"], (1 - left) * X_BC.mean(0), rtol=1e-5)
    variance = left + (1 - left) * X_BC.var(0)
    np.testing.assert_allclose(stats["var"], variance, rtol=1e-3)
    assert stats["count"] == 3

    fixed_BC, fixed = _passes(norm.clone(warmup=False), 3)
    flax_BC, by_flax = _passes(
        nn.BatchNorm(use_running_average=False, momentum=0.999), 3
    )
    jax.tree.map(np.testing.assert_array_equal, fixed, by_flax)  # no count either
    for other_BC in (fixed_BC, flax_BC):
        np.testing.assert_array_equal(y_BC, other_BC)
    assert (np.asarray(fixed["var"]) > 0.99).all()


def test_moments_rest_in_evaluation_and_go_on_from_those_handed_over():
    norm = BatchNorm(use_running_average=True, momentum=0.9)
    stats = {"mean": jnp.ones(3), "var": jnp.full(3, 4.0), "count": jnp.array(500.0)}
    params = norm.init(jax.random.key(0), X_BC)["params"]
    given = {"params": params, "batch_stats": stats}
    y_BC, moved = norm.apply(given, X_BC, mutable=["batch_stats"])
    np.testing.assert_allclose(y_BC, (X_BC - 1) / np.sqrt(4 + 1e-5), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, moved["batch_stats"], stats)
    training = norm.clone(use_running_average=False)
    _, moved = training.apply(given, X_BC, mutable=["batch_stats"])
    mean = 0.9 + 0.1 * X_BC.mean(0)
    np.testing.assert_allclose(moved["batch_stats"]["mean"], mean, rtol=1e-5)


@pytest.mark.parametrize("name", teachers.SMALL)
def test_every_network_has_this_batch_norm(name):
    def leaves(**hparams):
        model = models.build(name, num_classes=2, dtype="float32", **hparams)
        images = jnp.zeros((2, 32, 32, 3))
        key = jax.random.key(0)
        variables = jax.eval_shape(lambda: model.init(key, images, train=False))
        paths = jax.tree.leaves_with_path(variables["batch_stats"])
        return [path[-1].key for path, _ in paths]

    norms = leaves().count("mean")
    assert leaves().count("count") == norms > 4
    assert leaves(bn_warmup=False).count("count") == 0


@pytest.mark.parametrize("warmup", [True, False])
def test_a_teacher_is_within_five_points_of_its_network(warmup):
    """After 200 steps at decays of 0.999, which without the rise leave .82 of the
    start. The experiment has every network."""
    right = teachers.accuracies("convnet", steps=200, warmup=warmup)
    assert right["network, batch's moments"] > 0.75
    apart = max(right.values()) - min(right.values())
    assert apart < 0.05 if warmup else apart > 0.2, right


def test_the_experiment_on_teachers_has_every_network_with_batch_norm():
    """Which are also those that the test above has."""
    moments = {
        name
        for name in named.modules("ssl_jax.models")
        if models.find(name).takes == "images" and "bn_momentum" in models.hparams(name)
    }
    assert teachers.SMALL.keys() == moments
