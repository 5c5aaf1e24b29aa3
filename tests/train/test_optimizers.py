"""The optimizer against FixMatch's recipe, by hand and by optax."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tiny
from configs import byol_cifar10, byol_imagenette, cifar10, cifar100
from ssl_jax import models
from ssl_jax.errors import UserError
from ssl_jax.train import optimizers, sections


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
    rate = _schedule(cifar10.get_config())
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


@pytest.mark.parametrize(
    ("warmup", "total", "steps", "rates"),
    [
        # 97.5% and 98.75% of all steps, the warm-up's among them
        (0, 2000, (0, 1949, 1950, 1974, 1975, 1999), (1, 1, 0.2, 0.2, 0.04, 0.04)),
        (20, 2000, (0, 10, 20, 1949, 1950, 1975), (0, 0.5, 1, 1, 0.2, 0.04)),
        # 60 steps: 58.5 and 59.25, so the last step has dropped once; 30: none has
        (0, 60, (58, 59), (1, 0.2)),
        (0, 30, (0, 29), (1, 1)),
    ],
)
def test_drops_of_the_last_fortieth_and_eightieth(warmup, total, steps, rates):
    rate = optimizers.schedule(
        "drops", learning_rate=2.0, warmup_steps=warmup, total_steps=total
    )
    assert [float(rate(k)) / 2 for k in steps] == pytest.approx(rates)


@pytest.mark.parametrize("warmup", [0, 6])
def test_a_tenth_of_the_rate_after_each_sixth(warmup):
    rate = optimizers.schedule(
        "sixths", learning_rate=2.0, warmup_steps=warmup, total_steps=600
    )
    assert float(rate(3)) == pytest.approx(1.0 if warmup else 2.0)
    for sixth in range(6):
        for step in (max(100 * sixth, warmup), 100 * sixth + 99):
            assert float(rate(step)) == pytest.approx(2 * 0.1**sixth), step


def test_linear_scaling_rule():
    """0.2 a batch of 256 is 3.2 at 4,096 (arXiv:2006.07733, section 3.3)."""
    assert optimizers.scaled(0.2, per_batch=256, batch_size=4096) == 0.2 * 16
    assert optimizers.scaled(0.2, per_batch=0, batch_size=4096) == 0.2


def test_a_phases_rate_and_decay_go_by_its_batch_and_its_steps():
    """Of a gradient of 0 AdamW leaves the decay, which goes from 0.04 to 0.4."""
    config = tiny.config("supervised.Supervised")
    config.train.update(batch_size=16, steps=8, unlabeled_ratio=0)
    config.train.optimizer.update(
        **dict(name="adamw", schedule="cosine", learning_rate=0.2, per_batch=4),
        **dict(warmup_steps=2, weight_decay=0.04, decay_end=0.4),
    )
    section = sections.parse(config).trained["train"]
    params = {"kernel": jnp.float32(2), "bias": jnp.float32(2)}
    gradient = jax.tree.map(jnp.zeros_like, params)
    state, update = section.tx.init(params), jax.jit(section.tx.update)
    for t in range(8):
        rate = 0.8 * (t / 2 if t < 2 else (1 + math.cos(math.pi * (t - 2) / 6)) / 2)
        assert float(section.rate(t)) == pytest.approx(rate)
        decay = 0.4 - 0.36 * (1 + math.cos(math.pi * t / 8)) / 2
        updates, state = update(gradient, state, params)
        assert float(updates["kernel"]) == pytest.approx(-2 * rate * decay, abs=1e-6)
        assert float(updates["bias"]) == 0


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
    assert cifar10.get_config().train.optimizer.weight_decay == 5e-4
    assert cifar100.get_config().train.optimizer.weight_decay == 1e-3


def test_weight_decay_on_the_papers_network():
    """WRN-28-2 has 1 + 3 * 4 * 2 convolutions, 3 shortcuts and the head."""
    config = cifar10.get_config()
    model = models.build(num_classes=10, **config.model)
    images = jnp.zeros((1, 32, 32, 3))
    init = partial(model.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), images)["params"]
    decayed = jax.tree.leaves(optimizers.kernels_only(params))
    assert sum(decayed) == 1 + 24 + 3 + 1
    assert len(decayed) - sum(decayed) == 2 * 25 + 1  # BatchNorm pairs, the head's bias


@pytest.mark.parametrize(("decay_on", "bias"), [("kernels", 1.539), ("all", 1.1141)])
def test_two_nesterov_steps_by_hand(decay_on, bias):
    """v <- 0.9 v + g + wd w;  w <- w - lr (0.9 v + g + wd w), as in TensorFlow."""
    tx = optimizers.build(
        "sgd",
        rate=lambda _: 0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=0.5,
        decay_on=decay_on,
        trust_coefficient=7.0,  # not used
        clip_lr=False,
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
    # bias: v = 1, w = 2 - 0.19 = 1.81; v = 1.9, w = 1.81 - 0.271 = 1.539; or the same
    assert float(params["bias"]) == pytest.approx(bias)


def test_adam_equals_optax_without_decay():
    built = optimizers.build(
        "adam",
        rate=lambda _: 1e-2,
        momentum=0.9,
        nesterov=True,
        weight_decay=0.0,
        decay_on="kernels",
        trust_coefficient=7.0,  # not used
        clip_lr=False,
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


def test_adamw_takes_a_decay_that_rises_off_the_kernels_themselves():
    """PyTorch's AdamW: w <- w (1 - rate wd), and then Adam's step; wd as DINO's
    cosine_scheduler has it."""
    rates, steps = np.array([0.1, 0.2, 0.3, 0.2]), 4
    tx = optimizers.build(
        "adamw",
        rate=lambda step: jnp.asarray(rates)[step],
        momentum=0.9,
        nesterov=True,
        weight_decay=optimizers.decaying(0.04, 0.4, steps),
        decay_on="kernels",
        trust_coefficient=7.0,  # not used
        clip_lr=False,
    )
    params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    w, state = {"kernel": 2.0, "bias": 2.0}, tx.init(params)
    m, v = dict.fromkeys(w, 0.0), dict.fromkeys(w, 0.0)
    for t, g in enumerate([1.0, -0.5, 3.0, 0.2]):
        grads = dict.fromkeys(params, jnp.array(g))
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        wd = 0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * t / steps))
        for name in w:
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            m_hat, v_hat = (
                m[name] / (1 - 0.9 ** (t + 1)),
                v[name] / (1 - 0.999 ** (t + 1)),
            )
            w[name] *= 1 - rates[t] * wd * (name == "kernel")
            w[name] -= rates[t] * m_hat / (np.sqrt(v_hat) + 1e-8)
    for name in w:
        assert float(params[name]) == pytest.approx(w[name], abs=1e-5), name
    # Without an end, or of a range test, which has no number of steps, it stays.
    assert (
        optimizers.decaying(0.04, 0.0, 9) == optimizers.decaying(0.04, 0.4, 0) == 0.04
    )


def _lars(rate, name="lars", nesterov=False, weight_decay=0.1, **others):
    return optimizers.build(
        name,
        rate=rate,
        momentum=0.9,
        nesterov=nesterov,
        weight_decay=weight_decay,
        trust_coefficient=0.02,
        **(dict(decay_on="kernels", clip_lr=False) | others),
    )


_DRAW = np.random.default_rng(0)
_PARAMS = {  # a kernel that starts at 0 has a trust ratio of 1
    "Dense_0": {"kernel": _DRAW.normal(size=(5, 3)), "bias": _DRAW.normal(size=3)},
    "BatchNorm_0": {"scale": _DRAW.normal(size=3), "bias": np.zeros(3)},
    "head": {"kernel": np.zeros((3, 2))},
}
_GRADS = [  # of 6 steps; the sizes differ, so the rate of their own step matters
    jax.tree.map(lambda w, k=k: (k + 1) ** 2 * _DRAW.normal(size=w.shape), _PARAMS)
    for k in range(6)
]


def _run(tx):
    """Parameters after each of the steps."""
    params = jax.tree.map(jnp.float32, _PARAMS)
    state, moved = tx.init(params), []
    for grads in _GRADS:
        updates, state = tx.update(jax.tree.map(jnp.float32, grads), state, params)
        params = optax.apply_updates(params, updates)
        moved.append(params)
    return moved


def _run_in_float64(rate):
    """BYOL's code: m <- 0.9 m + u;  w <- w - rate(step) m."""
    params = jax.tree.map(np.copy, _PARAMS)
    momenta, moved = jax.tree.map(np.zeros_like, params), []

    def step(path, w, m, g, rate):
        if path[-1].key == "kernel":
            g = g + 0.1 * w
            norm_w, norm_g = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
            g = g * (0.02 * norm_w / norm_g if norm_w > 0 and norm_g > 0 else 1)
        m[...] = 0.9 * m + g
        return w - rate * m

    for k, grads in enumerate(_GRADS):
        one = partial(step, rate=rate(k))
        params = jax.tree.map_with_path(one, params, momenta, grads)
        moved.append(params)
    return moved


def _largest_difference(one, other):
    return max(
        np.abs(a - b).max()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def _optax_lars(rate, nesterov=False):
    only = optimizers.kernels_only
    options = dict(weight_decay=0.1, trust_coefficient=0.02, nesterov=nesterov)
    return optax.lars(rate, weight_decay_mask=only, trust_ratio_mask=only, **options)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_equals_optax_at_a_constant_rate(nesterov):
    ours = _run(_lars(rate=lambda _: 0.3, nesterov=nesterov))
    assert _largest_difference(ours, _run(_optax_lars(0.3, nesterov))) < 2e-5


def test_lars_multiplies_the_rate_after_the_momentum():
    """Warm-up over 2 of 6 steps, then half a cosine, against float64 and optax."""

    def rate(k):
        return k / 2 * 0.3 if k < 2 else 0.15 * (1 + math.cos(math.pi * (k - 2) / 4))

    schedule = optimizers.schedule(
        "cosine", learning_rate=0.3, warmup_steps=2, total_steps=6
    )
    ours, expected = _run(_lars(rate=schedule)), _run_in_float64(rate)
    assert _largest_difference(ours, expected) < 2e-5
    assert _largest_difference(expected, _run(_optax_lars(schedule))) > 1
    # At rate 0 nothing moves, but the momentum remembers the gradient.
    assert _largest_difference(ours[0], _PARAMS) < 1e-7


@pytest.mark.parametrize(
    ("rate", "gradient", "moved"),
    [(0.5, 0.05, 0.02501), (1, 1e-3, 0.00102), (0.1, 1, 0.04)],
)
def test_clipped_lars_moves_as_solo_learns(rate, gradient, moved):
    """w a 4x4 of 2.0, wd 1e-5, eta 0.02, first step: the rate of the layer is
    min(0.02 * 8 / (4 g + 8e-5), rate)."""
    tx = _lars(lambda _: rate, weight_decay=1e-5, clip_lr=True)
    params = {"kernel": jnp.full((4, 4), 2.0), "bias": jnp.full(4, 2.0)}
    grads = jax.tree.map(lambda w: jnp.full_like(w, gradient), params)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -moved, rtol=1e-4)
    np.testing.assert_allclose(updates["bias"], -rate * gradient, rtol=1e-6)
    assert byol_cifar10.get_config().pretrain.optimizer.clip_lr  # solo-learn's
    assert not byol_imagenette.get_config().pretrain.optimizer.clip_lr  # DeepMind's


def test_clipped_lars_on_a_loss_ten_times_as_large():
    """Moves as on the loss itself at a tenth of the rate and ten times the decay, by
    which solo_cifar10 has solo-learn's Barlow Twins; and not as at the same."""

    def moved(rate, weight_decay, times):
        tx = _lars(lambda _: rate, weight_decay=weight_decay, clip_lr=True)
        params, state = _PARAMS, tx.init(_PARAMS)
        for grads in _GRADS:
            grads = jax.tree.map(lambda g: times * g, grads)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    theirs = moved(0.002, 1e-4, times=1)
    assert _largest_difference(moved(0.0002, 1e-3, times=10), theirs) < 1e-6
    assert _largest_difference(moved(0.002, 1e-4, times=10), theirs) > 1e-3


def test_clipped_lars_over_a_schedule_and_at_norms_of_0():
    """Warm-up over 2 of 6 steps, then half a cosine, in float64: at rate 0 nothing is
    clipped, and a gradient of 0 or of a kernel of 0 stays as it is."""
    schedule = optimizers.schedule(
        "cosine", learning_rate=0.3, warmup_steps=2, total_steps=6
    )
    kernels, momenta, clipped = [np.array([1, -2, 2.0]), np.zeros(3)], [0, 0], set()
    tx, params = _lars(schedule, clip_lr=True), _as_params(kernels)
    state = tx.init(params)
    for k, size in enumerate((10, 0, 0.01, 3, 0.001, 1)):
        grad, rate = size * np.array([2.0, 1, -2]), float(schedule(k))
        for i, w in enumerate(kernels):
            move, norm_w, norm_g = grad, np.linalg.norm(w), np.linalg.norm(grad)
            if norm_w > 0 and norm_g > 0:
                trust = 0.02 * norm_w / (norm_g + 0.1 * norm_w)
                clipped.add(trust > rate)
                move = (grad + 0.1 * w) * (1 if trust > rate else trust / rate)
            momenta[i] = 0.9 * momenta[i] + move
            kernels[i] = w - rate * momenta[i]
        updates, state = tx.update(_as_params([grad, grad]), state, params)
        params = optax.apply_updates(params, updates)
    assert clipped == {True, False}
    assert _largest_difference(params, _as_params(kernels)) < 2e-6


def _as_params(kernels):
    return [{"kernel": jnp.float32(kernel)} for kernel in kernels]


def test_lars_leaves_biases_and_scales_to_plain_momentum():
    ours, plain = _run(_lars(rate=lambda _: 0.3)), _run(optax.sgd(0.3, momentum=0.9))
    for one, other in zip(ours, plain, strict=True):
        assert _largest_difference(one["BatchNorm_0"], other["BatchNorm_0"]) < 1e-5
        assert np.abs(one["Dense_0"]["bias"] - other["Dense_0"]["bias"]).max() < 1e-5
        kernels = one["Dense_0"]["kernel"], other["Dense_0"]["kernel"]
        assert _largest_difference(*kernels) > 1e-3


def test_unknown_names_and_endless_warmup_are_the_users_mistakes():
    common = dict(learning_rate=0.1, total_steps=10)
    with pytest.raises(UserError, match="'linear'.*cosine_7_16"):
        optimizers.schedule("linear", warmup_steps=0, **common)
    with pytest.raises(UserError, match="warmup_steps=10.*steps=10"):
        optimizers.schedule("cosine", warmup_steps=10, **common)
    with pytest.raises(UserError, match="clip_lr=True is LARS's.*'sgd'"):
        _lars(rate=lambda _: 0.1, name="sgd", clip_lr=True)
    with pytest.raises(UserError, match="decay_on='biases'.*kernels.*all"):
        _lars(rate=lambda _: 0.1, decay_on="biases")
    with pytest.raises(UserError, match="LARS.*decay_on=kernels"):
        _lars(rate=lambda _: 0.1, decay_on="all")
    with pytest.raises(UserError, match="'lamb'.*adam.*lars.*sgd"):
        _lars(rate=lambda _: 0.1, name="lamb")
