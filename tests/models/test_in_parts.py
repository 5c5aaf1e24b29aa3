"""A batch in parts, and blocks computed again: less memory, and the same result."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import toy
from ssl_jax import core, models
from ssl_jax.models.shared.in_parts import InParts

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)


@pytest.fixture(params=["unrolled", "scanned"])
def loop(request, monkeypatch):
    """As on a CPU, and as on an accelerator."""
    backend = {"unrolled": "cpu", "scanned": "gpu"}[request.param]
    monkeypatch.setattr(jax, "default_backend", lambda: backend)


def _step(model, variables, x, weights, rngs=None):
    """(outputs, moved state, gradients of parameters and images) in training mode, of
    the sum of the outputs times `weights`."""
    params = variables["params"]
    state = {name: value for name, value in variables.items() if name != "params"}

    def loss(params, x):
        y, moved = core.forward(model, params, state, x, train=True, rngs=rngs)
        return (y * weights).sum(), (y, moved)

    grads = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (of_params, of_x), (y, moved) = jax.jit(grads)(params, x)
    return y, moved, of_params, of_x


def _close(one, other, tolerance=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        one,
        other,
    )


def _initialised(model, image, count=8):
    x = DRAW.normal(size=(count, *image)).astype(np.float32)
    return jax.jit(lambda: model.init(jax.random.key(0), x, train=False))(), x


@pytest.fixture(scope="module")
def lenet():
    """(model, variables, images, weights, step on the whole batch)."""
    model = models.build(
        "lenet", num_classes=3, dtype="float32", filters=(4,), features=8
    )
    variables, x = _initialised(model, (8, 8, 1))
    weights = DRAW.normal(size=(8, 3))
    return model, variables, x, weights, _step(model, variables, x, weights)


def test_without_batch_norm_the_step_is_the_same(lenet, loop):
    """Of the images too: a method may ask for that gradient."""
    model, variables, x, weights, whole = lenet
    in_parts = models.in_parts(model, 4)
    _close(_step(in_parts, variables, x, weights), whole)
    shapes = jax.eval_shape(lambda: in_parts.init(jax.random.key(0), x, train=False))
    assert jax.tree.structure(shapes) == jax.tree.structure(variables)
    told = [m.apply(variables, x[:7], train=False) for m in (in_parts, model)]
    np.testing.assert_array_equal(*told)  # evaluation sees one batch, of any size


def test_batch_norm_sees_a_part_at_a_time(loop):
    """By hand: rows 0, 2, 4, ... and rows 1, 3, 5, ..., the moments moved by each."""
    encoder = toy.Normalised()
    variables, x = _initialised(encoder, (1, 3))
    weights = DRAW.normal(size=(8, 3))
    y, moved, grads, _ = _step(InParts(encoder, 2), variables, x, weights)

    norm = {"mean": np.zeros(3), "var": np.ones(3)}
    for count, rows in enumerate((slice(0, None, 2), slice(1, None, 2))):
        x_BK = x[rows].reshape(4, 3).astype(np.float64)
        mean, var = x_BK.mean(0), x_BK.var(0)
        y_BK = (x_BK - mean) / np.sqrt(var + 1e-5)
        np.testing.assert_allclose(y[rows], y_BK, atol=1e-5)
        left = (1 + count) / (10 + count)  # core.rising
        norm["mean"] = left * norm["mean"] + (1 - left) * mean
        norm["var"] = left * norm["var"] + (1 - left) * var
    stats = dict(moved["batch_stats"]["BatchNorm_0"])
    assert stats.pop("count") == 2
    _close(stats, norm, 1e-5)
    assert moved["batch_stats"]["pixels"]["seen"] == 404  # a pass of 4, then another
    # The gradient of BatchNorm's own parameters is of all rows.
    _close(grads["BatchNorm_0"]["scale"], (y * weights).sum(0), 1e-5)
    _close(grads["BatchNorm_0"]["bias"], weights.sum(0), 1e-5)


class _Dropped(nn.Module):
    """A weight for each input, half of which dropout takes away."""

    @nn.compact
    def __call__(self, x_BD, *, train):
        weight_D = self.param("weight", nn.initializers.ones, x_BD.shape[-1:])
        return nn.Dropout(0.5, deterministic=not train)(x_BD * weight_D[None])


def test_each_part_drops_other_units_and_both_its_passes_the_same(loop):
    model, x_BD = InParts(_Dropped(), 4), jnp.ones((4, 64))
    variables = model.init(jax.random.key(0), x_BD, train=False)
    rngs = core.model_rngs(jax.random.key(1))
    y_BD, _, grads, of_x = _step(model, variables, x_BD, 1.0, rngs)
    assert len({tuple(row) for row in np.asarray(y_BD)}) == 4
    np.testing.assert_array_equal(of_x, y_BD)
    np.testing.assert_array_equal(grads["weight"], y_BD.sum(0))


def _wide(**given):
    return models.build(
        "wide_resnet", num_classes=3, dtype="float32", widen=1, scales=1, **given
    )


def test_memory_is_saved_and_blocks_computed_again_give_the_same():
    """What the compiled step holds at once, beside its arguments and results."""
    plain, remat = _wide(blocks=2), _wide(blocks=2, remat=True)
    variables, x = _initialised(plain, (16, 16, 3), 32)
    steps = {
        name: jax.jit(partial(_step, model)).lower(variables, x, 1.0).compile()
        for name, model in {
            "whole": plain,
            "remat": remat,
            "parts": models.in_parts(plain, 2),
        }.items()
    }
    held = {k: c.memory_analysis().temp_size_in_bytes for k, c in steps.items()}
    assert held["parts"] < 0.6 * held["whole"], held
    assert held["remat"] < 0.75 * held["whole"], held
    one, other = (steps[name](variables, x, 1.0) for name in ("whole", "remat"))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * abs(a).max())


@pytest.mark.parametrize(
    ("name", "hparams", "blocks"),
    [("wide_resnet", {"blocks": 1}, 3), ("resnet", {"depth": 18}, 8)],
)
def test_each_block_is_computed_again_and_keeps_its_name(name, hparams, blocks):
    x = jnp.zeros((2, 32, 32, 3))

    def traced(train, remat):
        model = models.build(
            name, num_classes=3, dtype="float32", remat=remat, **hparams
        )
        shapes = jax.eval_shape(lambda: model.init(KEY, x, train=False))
        apply = partial(model.apply, train=train, mutable=["batch_stats"])
        text = str(jax.make_jaxpr(apply)(shapes, x))
        return jax.tree.map(jnp.shape, shapes), text.count("custom_vjp_call[")

    plain, remat = traced(True, False), traced(True, True)
    assert plain[0] == remat[0]
    # Convolutions have rules of their own, too.
    assert remat[1] - plain[1] == blocks
    assert traced(False, True)[1] == traced(False, False)[1]


def test_no_row_moves_between_devices(loop):
    """In either loop; and any number of them gives what one does."""
    model = models.build("convnet", num_classes=3, dtype="float32", filters=(4,))
    variables, _ = _initialised(model, (4, 4, 1))
    model, told = models.in_parts(model, 2), []
    views = [DRAW.normal(size=(n, 4, 4, 1)).astype(np.float32) for n in (8, 16)]

    def step(variables, *views):
        y, moved, grads, _ = _step(model, variables, core.concat_views(*views), 1.0)
        return core.split_views(y, 8, 16), moved, grads

    for devices in (1, 2, 4):
        mesh = core.make_mesh(jax.devices()[:devices])
        with jax.set_mesh(mesh):
            rows = jax.device_put(views, NamedSharding(mesh, P("data")))
            compiled = jax.jit(step).lower(variables, *rows).compile()
            told.append(jax.device_get(compiled(variables, *rows)))
    for other in told[1:]:
        _close(told[0], other, 1e-5)
    assert set(exchanges(compiled)) == {"all-reduce"}


def exchanges(compiled):
    return re.findall(
        r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
        r"|collective-broadcast|ragged-all-to-all)(?:-start)?\(",
        compiled.as_text(),
    )
