"""The optimizer against FixMatch's recipe, by hand and by optax."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import fixmatch_cifar10, fixmatch_cifar100
from ssl_jax import models, optimizers
from ssl_jax.core import UserError


def _schedule(config, steps=None):
    section = config.train.optimizer
    return optimizers.schedule(
        section.schedule,
        learning_rate=section.learning_rate,
        warmup_steps=section.warmup_steps,
        total_steps=steps or config.train.steps,
    )


def test_fixmatch_learning_rate_is_the_papers():
    """0.03 cos(7 pi k / (16 K)), K = 2^20, no warm-up."""
    rate = _schedule(fixmatch_cifar10.get_config())
    assert rate(0) == pytest.approx(0.03)
    assert rate(2**19) == pytest.approx(0.03 * math.cos(7 * math.pi / 32))  # 0.02319
    assert rate(2**19) == pytest.approx(0.0231903, abs=1e-6)
    assert rate(2**20) == pytest.approx(0.00585271, abs=1e-6)


def test_warmup_rises_linearly_and_the_rest_decays():
    rate = optimizers.schedule(
        "cosine", learning_rate=1.0, warmup_steps=10, total_steps=110
    )
    assert [float(rate(k)) for k in (0, 5, 10)] == pytest.approx([0, 0.5, 1])
    assert float(rate(60)) == pytest.approx(0.5) and float(rate(110)) == 0


def test_weight_decay_is_on_kernels_only():
    params = {
        "Conv_0": {"kernel": 0},
        "BatchNorm_0": {"scale": 0, "bias": 0},
        "head": {"kernel": 0, "bias": 0},
    }
    assert optimizers.kernels_only(params) == {
        "Conv_0": {"kernel": True},
        "BatchNorm_0": {"scale": False, "bias": False},
        "head": {"kernel": True, "bias": False},
    }
    assert fixmatch_cifar10.get_config().train.optimizer.weight_decay == 5e-4
    assert fixmatch_cifar100.get_config().train.optimizer.weight_decay == 1e-3


def test_weight_decay_on_the_papers_network():
    """WRN-28-2 has 1 + 3 * 4 * 2 convolutions, 3 shortcuts and the head."""
    config = fixmatch_cifar10.get_config()
    model = models.build(num_classes=10, **config.model)
    images = jnp.zeros((1, 32, 32, 3))
    init = partial(model.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), images)["params"]
    decayed = jax.tree.leaves(optimizers.kernels_only(params))
    assert sum(decayed) == 1 + 24 + 3 + 1
    assert len(decayed) - sum(decayed) == 2 * 25 + 1  # BatchNorm pairs, the head's bias


def test_two_nesterov_steps_by_hand():
    """v <- 0.9 v + g + wd w;  w <- w - lr (0.9 v + g + wd w), as in TensorFlow."""
    tx = optimizers.build(
        "sgd", rate=lambda _: 0.1, momentum=0.9, nesterov=True, weight_decay=0.5
    )
    params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    state = tx.init(params)
    for _ in range(2):
        grads = {"kernel": jnp.array(1.0), "bias": jnp.array(1.0)}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    # kernel: g = 1 + 0.5 * 2 = 2, v = 2, w = 2 - 0.1 * 3.8 = 1.62;
    # then g = 1.81, v = 3.61, w = 1.62 - 0.1 * (0.9 * 3.61 + 1.81) = 1.1141
    assert float(params["kernel"]) == pytest.approx(1.1141)
    # bias: v = 1, w = 2 - 0.19 = 1.81; v = 1.9, w = 1.81 - 0.271 = 1.539
    assert float(params["bias"]) == pytest.approx(1.539)


def test_adam_equals_optax_without_decay():
    built = optimizers.build(
        "adam", rate=lambda _: 1e-2, momentum=0.9, nesterov=True, weight_decay=0.0
    )
    params = {"kernel": jax.random.normal(jax.random.key(0), (5,))}
    for tx in (built, optax.adam(1e-2)):
        moved, state = params, tx.init(params)
        for step in range(3):
            grads = jax.tree.map(lambda w, k=step: jnp.sin(w + k), moved)
            updates, state = tx.update(grads, state, moved)
            moved = optax.apply_updates(moved, updates)
        if tx is built:
            ours = moved
    np.testing.assert_allclose(ours["kernel"], moved["kernel"], rtol=1e-6)


def test_unknown_names_and_endless_warmup_are_the_users_mistakes():
    common = dict(learning_rate=0.1, total_steps=10)
    with pytest.raises(UserError, match="'linear'.*cosine_7_16"):
        optimizers.schedule("linear", warmup_steps=0, **common)
    with pytest.raises(UserError, match="warmup_steps=10.*steps=10"):
        optimizers.schedule("cosine", warmup_steps=10, **common)
    with pytest.raises(UserError, match="'lars'.*adam.*sgd"):
        optimizers.build(
            "lars", rate=lambda _: 0.1, momentum=0.9, nesterov=True, weight_decay=0.0
        )
