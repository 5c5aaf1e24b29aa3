"""BatchNorm's running moments, and a teacher that has them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax import core, models
from ssl_jax.algorithms.supervised import Supervised
from ssl_jax.augment.weak_strong import WeakStrong
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


@pytest.mark.parametrize(
    "name", ["cnn13", "convnet", "mobilenet", "resnet", "wide_resnet"]
)
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
    start. experiments/teachers.py has every network."""
    draw = np.random.default_rng(0)
    centre_KHWC = draw.normal(size=(4, 8, 8, 1))

    def drawn(size):
        label_B = draw.integers(4, size=size)
        noise_BHWC = draw.normal(size=(size, 8, 8, 1))
        images = jnp.float32(centre_KHWC[label_B] + noise_BHWC)
        return {"image": images, "label": jnp.int32(label_B)}

    model = models.build(
        "convnet",
        num_classes=4,
        dtype="float32",
        filters=(8,),
        bn_momentum=0.999,
        bn_warmup=warmup,
    )
    views = WeakStrong(plain=lambda x: x, weak=lambda _, x: x, strong=None)
    algorithm = Supervised(
        model=model, tx=optax.adam(0.003), views=views, ema_warmup=warmup
    )
    state = algorithm.init(jax.random.key(0), drawn(32))
    step = jax.jit(
        lambda state, batch: algorithm.train_step(state, batch, jax.random.key(0))[0]
    )
    for _ in range(200):
        state = step(state, drawn(32))
    test = drawn(500)
    network = state.params, state.model_state
    logits = {
        "batch": core.forward(model, *network, test["image"], train=True)[0],
        "network": core.forward(model, *network, test["image"], train=False)[0],
        "teacher": algorithm.predict(state, test),
    }
    right = {
        k: float((v.argmax(-1) == test["label"]).mean()) for k, v in logits.items()
    }
    assert right["batch"] > 0.75
    apart = max(right.values()) - min(right.values())
    assert apart < 0.05 if warmup else apart > 0.2, right
