"""A CPU's convolutions are XLA's, up to rounding, and nobody else's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax import core
from ssl_jax.models import convnet
from ssl_jax.models.shared import convolution

CASES = [  # side, kernel's side, stride, padding, channels in and out
    (8, 3, 1, "SAME", 3, 8),
    (9, 3, 2, "SAME", 8, 5),
    (8, 3, 2, ((1, 1), (1, 1)), 8, 16),
    (10, 3, 2, "VALID", 8, 16),
    (11, 7, 3, "SAME", 3, 8),
    (8, 1, 1, "SAME", 8, 16),
    (9, 1, 2, "SAME", 8, 16),
    (9, 5, 1, "VALID", 3, 4),
    (8, 3, 1, "SAME", 64, 64),  # by Winograd, as are the next
    (6, 3, 1, ((1, 1), (1, 1)), 64, 65),
    (2, 3, 1, "SAME", 65, 64),
    (6, 3, 1, "VALID", 64, 64),  # not these
    (7, 3, 1, "SAME", 64, 64),
]
LAYOUT = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))


def outputs(conv, images, kernel, stride, padding):
    """Its value, and the gradients by both of a sum that weighs each output."""

    def weighed(images, kernel):
        y = conv(images, kernel, (stride, stride), padding, **LAYOUT)
        return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

    gradients, y = jax.grad(weighed, (0, 1), has_aux=True)(images, kernel)
    return y, *gradients


@pytest.mark.parametrize("devices, piece", [(1, 5), (1, 20), (4, 2)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_xlas(case, devices, piece, monkeypatch):
    side, width, stride, padding, channels, filters = case
    monkeypatch.setattr(convolution, "PIECE", piece * 4 * side * side * channels)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(12, side, side, channels)).astype(np.float32)
    kernel = rng.normal(size=(width, width, channels, filters)).astype(np.float32)
    wanted = outputs(jax.lax.conv_general_dilated, images, kernel, stride, padding)
    mesh = core.make_mesh(jax.devices()[:devices])
    with jax.set_mesh(mesh):
        placed = jax.device_put(images, NamedSharding(mesh, P("data")))
        run = jax.jit(outputs, static_argnums=(0, 3, 4))
        given = run(convolution.convolution, placed, kernel, stride, padding)
    for ours, xlas in zip(given, wanted, strict=True):
        scale = np.abs(xlas).max()
        np.testing.assert_allclose(ours / scale, xlas / scale, atol=3e-6)


def gradient_of(network):
    def loss(params, images):
        return (network.apply({"params": params}, images) ** 2).mean()

    return jax.grad(loss)


@pytest.mark.parametrize(
    "images, channels, convolutions",
    [
        (8, 64, 0),  # by Winograd
        # Forward, by the images (of that gradient the value is traced as well, which
        # XLA drops), by the kernel in pieces.
        (8, 8, 1 + 2 + 1),
        (256, 8, 1 + 2 + 64),  # no more pieces, however small
    ],
)
def test_what_a_gradient_is_made_of(images, channels, convolutions, monkeypatch):
    monkeypatch.setattr(convolution, "PIECE", 1 if images > 8 else convolution.PIECE)
    x = jnp.ones((images, 4, 4, channels))
    kernel = jnp.ones((3, 3, channels, channels))

    def traced(x, kernel):
        return outputs(convolution.convolution, x, kernel, 1, "SAME")

    text = str(jax.make_jaxpr(traced)(x, kernel))
    assert text.count("conv_general_dilated[") == convolutions


class Two(nn.Module):
    conv: type

    @nn.compact
    def __call__(self, x_BHWC):
        y = self.conv(64, (3, 3))(x_BHWC)
        return self.conv(64, (3, 3), strides=1)(nn.relu(y)).mean((1, 2))


def test_devices_exchange_one_sum_for_each_kernel_and_bias():
    mesh = core.make_mesh()
    with jax.set_mesh(mesh):
        images = jax.device_put(jnp.ones((40, 4, 4, 3)), NamedSharding(mesh, P("data")))
        network = Two(convolution.Conv)
        params = network.init(jax.random.key(0), images)["params"]
        compiled = jax.jit(gradient_of(network)).lower(params, images).compile()
    text = compiled.as_text()
    exchanges = re.findall(r" (all-[a-z\-]+|collective-\w+|reduce-scatter)\(", text)
    # One may be of several arrays.
    assert set(exchanges) == {"all-reduce"} and len(exchanges) <= 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpus_program_is_as_without(dtype, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    images, texts = jnp.ones((8, 8, 8, 3)), []
    for conv in (nn.Conv, convolution.Conv):
        monkeypatch.setattr(convnet, "Conv", conv)
        network = convnet.Encoder(filters=(8, 64), dtype=jnp.dtype(dtype))
        variables = network.init(jax.random.key(0), images, train=False)

        def loss(params, network=network, variables=variables):
            given = {**variables, "params": params}
            y, _ = network.apply(given, images, train=True, mutable=["batch_stats"])
            return y.astype(jnp.float32).sum()

        traced = jax.jit(jax.grad(loss)).trace(variables["params"])
        texts.append(traced.lower(lowering_platforms=("cuda",)).as_text())
    assert texts[0] == texts[1] and "convolution" in texts[0]


def test_of_any_number_of_images_it_is_xlas_own():
    """Which is how a program is traced that runs elsewhere."""
    (B,) = jax.export.symbolic_shape("B")
    images = jax.ShapeDtypeStruct((B, 8, 8, 64), jnp.float32)
    kernel = jnp.zeros((3, 3, 64, 64))

    def convolve(images):
        return convolution.convolution(images, kernel, (1, 1), "SAME", **LAYOUT)

    (equation,) = jax.make_jaxpr(convolve)(images).eqns
    assert equation.primitive.name == "conv_general_dilated"
