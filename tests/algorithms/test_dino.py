"""DINO against a float64 transcription: one update, teacher, centre, schedules."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import erf

import two_halves
from ssl_jax.algorithms.dino import DINO, Head
from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.augment.multi_crop import MultiCrop
from two_halves import dense, encode, unit

CROPS = MultiCrop(
    *two_halves.GIVEN,
    small=lambda key, images: images[..., 2:6] * jax.random.uniform(key),
)


def head(x, part):
    """DINOHead, layer by layer; GELU is x Phi(x)."""
    for i in range(2):
        x = dense(x, part[f"Dense_{i}"])
        x = x * (1 + erf(x / np.sqrt(2))) / 2
    return unit(dense(x, part["Dense_2"])) @ unit(part["last"]["kernel"].T).T


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def dino_loss(student, teacher, center, teacher_temp, student_temp):
    """DINOLoss.forward."""
    total, terms = 0.0, 0
    for iq, q in enumerate(teacher):
        q = np.exp(log_softmax((q - center) / teacher_temp))
        for v, out in enumerate(student):
            if v != iq:
                total += -(q * log_softmax(out / student_temp)).sum(1).mean()
                terms += 1
    return total / terms


def build(**hparams):
    temperatures = dict(
        temperature=0.5,
        teacher_temperature=0.4,
        first_temperature=0.2,
        warmup_steps=60,
    )
    sizes = dict(total_steps=100, bottleneck=6, out=7, small_crops=2)
    others = dict(momentum=0.9, clip=0.0)
    return two_halves.build(DINO, CROPS, **temperatures | sizes | others | hparams)


def apart(algorithm, given, step):
    state = algorithm.init(jax.random.key(0), given)
    center = np.float32(np.random.default_rng(4).normal(size=7))
    target = two_halves.moved(state.extra["target"], 2)
    return state.replace(
        step=jnp.int32(step),
        params=two_halves.moved(state.params, 1),
        extra={"target": target, "center_K": center},
    )


def test_one_update_is_the_papers():
    given = two_halves.batch(8)
    algorithm = build()
    state = apart(algorithm, given, step=30)
    crops = joint_embedding.crops_of(CROPS, given, jax.random.key(0), 2)
    crops = [np.float64(crop) for crop in crops]
    target = jax.tree.map(np.float64, state.extra["target"])
    teacher = [head(encode(x, target), target["projector"]) for x in crops[:2]]
    center = np.float64(state.extra["center_K"])

    def loss(params):
        student = [head(encode(x, params), params["projector"]) for x in crops]
        return dino_loss(student, teacher, center, 0.3, 0.5)  # half way from 0.2 to 0.4

    moved = {"encoder", "projector"}
    after, _ = two_halves.assert_one_update_is(algorithm, state, given, loss, moved)

    batch_center = np.concatenate(teacher).mean(0)
    np.testing.assert_allclose(
        after.extra["center_K"], center * 0.9 + batch_center * 0.1, atol=1e-5
    )
    m = 1 + 0.5 * (0.9 - 1) * (1 + np.cos(np.pi * 30 / 100))  # cosine_scheduler
    for part in target:
        jax.tree.map(
            lambda new, old, online: np.testing.assert_allclose(
                new, m * old + (1 - m) * np.float64(online), atol=1e-5
            ),
            after.extra["target"][part],
            target[part],
            after.params[part],
        )


def test_a_narrow_head_begins_by_telling_images_apart_as_much_as_the_codes():
    """Before it is brought to length 1, so that no step's biases drown it."""
    x = np.random.default_rng(0).normal(size=(32, 384)).astype(np.float32)
    spread, kernels = {}, {}
    for hidden in (2048, 128):
        head = Head(hidden, 64, 8)
        variables = jax.jit(partial(head.init, train=True))(jax.random.key(0), x)
        kernels[hidden] = variables["params"]["Dense_2"]["kernel"]
        _, seen = head.apply(
            variables,
            x,
            train=True,
            capture_intermediates=lambda module, _: module.name == "Dense_2",
            mutable=["intermediates"],
        )
        bottleneck = seen["intermediates"]["Dense_2"]["__call__"][0]
        spread[hidden] = np.std(bottleneck, axis=0).mean()
    assert spread[128] > spread[2048] / 2 > 0.02
    # trunc_normal_ of the code's utils.py cuts at 2, which is 100 deviations.
    assert np.std(kernels[2048]) == pytest.approx(0.02, rel=0.02)
    assert np.abs(kernels[2048]).max() > 3 * 0.02
    last = variables["params"]["last"]["kernel"]
    assert 0.9 < np.abs(last).max() * np.sqrt(64) <= 1


def test_the_teachers_temperature_rises_to_its_own():
    at = build().sharpness
    np.testing.assert_allclose(
        [at(0), at(30), at(60), at(99)], [0.2, 0.3, 0.4, 0.4], rtol=1e-6
    )
    np.testing.assert_allclose(build(warmup_steps=0).sharpness(0), 0.4)


def test_the_last_layer_stays_until_it_is_free():
    """Whatever decays; the others move at once."""
    given = two_halves.batch(8)
    algorithm = build(freeze_steps=3)
    decaying = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(1.0))
    algorithm = dataclasses.replace(algorithm, tx=decaying)
    step = jax.jit(algorithm.train_step)
    for at, moves in ((2, False), (3, True)):
        before = apart(algorithm, given, at)
        after, _ = step(before, given, jax.random.key(0))
        one, other = before.params["projector"], after.params["projector"]
        same = {
            layer: np.array_equal(one[layer]["kernel"], other[layer]["kernel"])
            for layer in ("Dense_0", "last")
        }
        assert same == {"Dense_0": False, "last": not moves}


def test_each_parameters_gradient_is_clipped_by_itself():
    """clip_gradients of the code's utils.py."""
    clip = build(clip=3.0).clipped
    grads = {"long": jnp.full(4, 6.0), "short": jnp.full(4, 1.0)}
    updates, _ = clip.update(grads, clip.init(grads), grads)
    np.testing.assert_allclose(updates["long"], -6 * 3 / (12 + 1e-6), rtol=1e-6)
    np.testing.assert_allclose(updates["short"], -1)
