"""What holds a method of two views against its transcription in float64 NumPy: views
that need no key, a network layer by layer, and a gradient by differences."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax import models
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import named

# Given views: an image's two halves. They need no key.
GIVEN = TwoCrops(
    plain=lambda images: images[..., :4].astype(jnp.float32),
    first=lambda key, images: images[..., :4].astype(jnp.float32),
    second=lambda key, images: images[..., 4:].astype(jnp.float32),
)

SMALL = {"hidden": 10, "projection": 6}


def batch(size: int = 16) -> dict[str, np.ndarray]:
    """Of images without labels, the same each time."""
    shape = (size, 2, 2, 8)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return {"image": images, "label": np.full(size, -1, np.int32)}


def build(cls, views=GIVEN, **hparams):
    """With a small encoder; sgd(1): an update is minus the gradient."""
    model = models.build("mlp", num_classes=3, dtype="float32", features=(12,))
    small = {name: size for name, size in SMALL.items() if name in named.defaults(cls)}
    return cls(model=model, tx=optax.sgd(1.0), views=views, **small | hparams)


def moved(tree, seed: int):
    """The tree off its start, biases too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (
            leaf + np.float32(0.1) * rng.normal(size=leaf.shape).astype(np.float32)
        ),
        jax.device_get(tree),
    )


def halves(given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The views as GIVEN makes them, in float64."""
    return [np.float64(given["image"][..., half]) for half in np.s_[:4, 4:]]


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0)


def batch_norm(x, layer):
    normal = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    return normal * layer.get("scale", 1) + layer.get("bias", 0)


def mlp(x, part):
    """Of as many layers as the part has."""
    last = len([name for name in part if name.startswith("Dense")]) - 1
    for i in range(last):
        x = dense(x, part[f"Dense_{i}"])
        x = np.maximum(batch_norm(x, part[f"BatchNorm_{i}"]), 0)
    return dense(x, part[f"Dense_{last}"])


def normalised_mlp(x, part):
    return batch_norm(mlp(x, part["MLP_0"]), part.get("BatchNorm_0", {}))


def encode(x, params):
    return np.maximum(dense(x.reshape(len(x), -1), params["encoder"]["Dense_0"]), 0)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gradient(loss: Callable, params, step: float = 1e-6):
    """Of loss(params) by each number of the float64 params, by central differences."""

    def by(leaf):
        grad = np.zeros_like(leaf)
        for at in np.ndindex(leaf.shape):
            value, around = leaf[at], []
            for there in (value + step, value - step):
                leaf[at] = there
                around.append(loss(params))
            leaf[at] = value
            grad[at] = (around[0] - around[1]) / (2 * step)
        return grad

    return jax.tree.map(by, params)


def assert_one_update_is(algorithm, state, given, loss: Callable, parts: set[str]):
    """One train step from `state` has this loss, and moves all parameters against its
    gradient: (state after it, metrics).

    Args:
      loss: of params in float64.
      parts: that the loss moves; the others (the head) it leaves alone.
    """
    after, metrics = jax.jit(algorithm.train_step)(state, given, jax.random.key(0))
    params = jax.tree.map(np.array, jax.tree.map(np.float64, state.params))
    np.testing.assert_allclose(metrics["loss"].compute(), loss(params), atol=1e-5)
    grads = gradient(loss, params)
    assert {
        part
        for part, grad in grads.items()
        if max(np.abs(leaf).max() for leaf in jax.tree.leaves(grad)) > 1e-3
    } == parts
    moves = jax.tree.map(lambda a, b: a - np.float64(b), params, after.params)
    for part in grads:
        jax.tree.map(
            lambda move, grad, part=part: np.testing.assert_allclose(
                move, grad, atol=1e-5, err_msg=part
            ),
            moves[part],
            grads[part],
        )
    return after, metrics
