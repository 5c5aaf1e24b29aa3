"""BYOL and SimSiam against float64 transcriptions; schedules, gradients, statistics."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import two_halves
from configs import byol_cifar10, byol_imagenette, byol_stl10, simsiam_cifar10
from ssl_jax import models
from ssl_jax.algorithms.byol import BYOL
from ssl_jax.algorithms.simsiam import SimSiam
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import make_mesh
from two_halves import encode, mlp, unit

# Given views: an image's two halves. They need no key.
GIVEN = TwoCrops(
    plain=lambda images: images[..., :4].astype(jnp.float32),
    first=lambda key, images: images[..., :4].astype(jnp.float32),
    second=lambda key, images: images[..., 4:].astype(jnp.float32),
)


def build(cls, **hparams):
    """On an encoder with BatchNorm moments; sgd(1): an update is minus the gradient."""
    model = models.build("mlp", num_classes=3, dtype="float32", features=(12,))
    if cls is BYOL:
        hparams = dict(total_steps=100, head_bias=True) | hparams
    hparams = dict(hidden=10, projection=6) | hparams
    return cls(model=model, tx=optax.sgd(1.0), views=GIVEN, **hparams)


@pytest.fixture
def batch():
    images = np.random.default_rng(0).normal(size=(16, 2, 2, 8)).astype(np.float32)
    return {"image": images, "label": np.full(16, -1, np.int32)}


@pytest.fixture
def state(batch):
    """One whose target is not its online network, and whose biases are not zero."""
    algorithm = build(BYOL)
    state = algorithm.init(jax.random.key(0), batch)
    params = _moved(state.params, 1)
    target = _moved(state.extra["target"], 2)
    return state.replace(params=params, extra={"target": target})


def _moved(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (
            leaf + np.float32(0.1) * rng.normal(size=leaf.shape).astype(np.float32)
        ),
        jax.device_get(tree),
    )


# The paper in float64, layer by layer.


def project(x, params):
    return mlp(encode(x, params), params["projector"])


def test_one_update_is_the_papers(state, batch):
    """Eq. 2 for both orders of the views, and then the target's moving average."""
    algorithm = build(BYOL, tau_base=0.9)
    state = state.replace(step=jnp.int32(30))
    target = jax.tree.map(np.float64, state.extra["target"])
    v, v_ = two_halves.halves(batch)
    z, z_ = (unit(project(view, target)) for view in (v, v_))

    def loss(params):
        q, q_ = (mlp(project(view, params), params["predictor"]) for view in (v, v_))
        cosines = (unit(q) * z_).sum(1), (unit(q_) * z).sum(1)
        return sum((2 - 2 * cosine_B).mean() for cosine_B in cosines)

    moved = {"encoder", "projector", "predictor"}
    after, _ = two_halves.assert_one_update_is(algorithm, state, batch, loss, moved)

    tau = 1 - (1 - 0.9) * (np.cos(np.pi * 30 / 100) + 1) / 2
    for part in ("encoder", "projector"):
        jax.tree.map(
            lambda new, old, online: np.testing.assert_allclose(
                new, tau * old + (1 - tau) * np.float64(online), atol=1e-5
            ),
            after.extra["target"][part],
            target[part],
            after.params[part],
        )


def test_target_gets_no_gradient_at_all(state, batch):
    algorithm = build(BYOL)

    def loss(extra):
        views = (GIVEN.first(None, batch["image"]), GIVEN.second(None, batch["image"]))
        args = (state.params, state.model_state, extra, views, batch["label"])
        return algorithm.loss(*args, jax.random.key(0))[0]

    jax.tree.map(
        lambda grad: np.testing.assert_array_equal(grad, 0),
        jax.jit(jax.grad(loss))(state.extra),
    )


def test_the_probe_sends_no_gradient_and_learns_from_granted_labels_only(state, batch):
    algorithm = build(BYOL)
    step = jax.jit(algorithm.train_step)
    without, _ = step(state, batch, jax.random.key(0))
    labels = np.full(16, -1, np.int32)
    labels[:4] = [0, 1, 2, 1]
    with_labels, metrics = step(state, batch | {"label": labels}, jax.random.key(0))
    assert metrics["accuracy"].count == 4
    for part in ("encoder", "projector", "predictor"):
        jax.tree.map(
            np.testing.assert_array_equal,
            without.params[part],
            with_labels.params[part],
        )
    np.testing.assert_array_equal(
        without.params["head"]["kernel"], state.params["head"]["kernel"]
    )
    assert not np.array_equal(
        with_labels.params["head"]["kernel"], state.params["head"]["kernel"]
    )


@pytest.mark.parametrize(
    ("head_bias", "parameters"), [(False, 3_158_016), (True, 3_158_272)]
)
def test_the_projector_is_deepminds_or_solo_learns(head_bias, parameters):
    """512 x 4096 + 4096, two numbers each of 4096 in BatchNorm, 4096 x 256; and 256."""
    config = byol_imagenette.get_config().pretrain.algorithm
    assert (config.hidden, config.projection, config.head_bias) == (4096, 256, False)
    views = byol_imagenette.get_config().pretrain.augment
    assert (views.side, views.resize) == (128, 128 + 32)  # as its evaluation crops
    assert not byol_imagenette.get_config().model.bn_warmup
    projector = build(
        BYOL, hidden=4096, projection=256, head_bias=head_bias
    ).network.projector
    made = jax.eval_shape(
        partial(projector.init, train=True), jax.random.key(0), jnp.zeros((2, 512))
    )
    leaves = jax.tree.leaves(made["params"])
    assert sum(leaf.size for leaf in leaves) == parameters
    assert byol_stl10.get_config().pretrain.algorithm.head_bias  # htdt's
    assert byol_cifar10.get_config().pretrain.algorithm.head_bias  # solo-learn's
    assert not byol_stl10.get_config("paper96").pretrain.algorithm.head_bias


def test_tau_rises_from_its_base_to_one():
    tau = build(BYOL, tau_base=0.996).tau
    np.testing.assert_allclose(
        [tau(0), tau(50), tau(100)], [0.996, 0.998, 1], atol=1e-6
    )


def test_statistics_of_a_device_alone_would_not_do(state, batch):
    """test_contract.py compares 4 devices with 1 to 1e-5, loss by loss: with BatchNorm
    over each device's own rows it would fail at the first step."""
    algorithm = build(BYOL)

    def loss(state, batch):
        _, metrics = algorithm.train_step(state, batch, jax.random.key(0))
        return metrics["loss"].compute()

    mesh = make_mesh(jax.devices()[:4])
    alone = jax.shard_map(
        lambda state, batch: jax.lax.pmean(loss(state, batch), "data"),
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=P(),
        check_vma=False,
    )
    assert abs(jax.jit(alone)(state, batch) - jax.jit(loss)(state, batch)) > 1e-2


def test_simsiams_loss_is_minus_the_mean_cosine(batch):
    algorithm = build(SimSiam, bottleneck=5)
    state = algorithm.init(jax.random.key(0), batch)
    _, metrics = jax.jit(algorithm.train_step)(state, batch, jax.random.key(0))
    params = jax.tree.map(np.float64, state.params)
    z, p = [], []
    for half in np.s_[:4, 4:]:
        x = np.float64(batch["image"][..., half]).reshape(16, -1)
        output = mlp(encode(x, params), params["projector"]["MLP_0"])
        z.append((output - output.mean(0)) / np.sqrt(output.var(0) + 1e-5))
        p.append(mlp(z[-1], params["predictor"]))
    cosines = [(unit(p[a]) * unit(z[b])).sum(1).mean() for a, b in ((0, 1), (1, 0))]
    np.testing.assert_allclose(
        metrics["objective"].compute(), -np.mean(cosines), atol=1e-5
    )
    # Nothing follows the projector's last BatchNorm, nor has it a bias before it.
    assert params["projector"].keys() == {"MLP_0"}
    assert params["projector"]["MLP_0"]["Dense_1"].keys() == {"kernel"}


def test_one_update_of_simsiams_holds_the_targets():
    """Its gradient is by the predictions alone: no loss shows that."""
    given, views = two_halves.batch(8), two_halves.halves(two_halves.batch(8))
    algorithm = two_halves.build(SimSiam, bottleneck=5)
    state = algorithm.init(jax.random.key(0), given)
    state = state.replace(params=two_halves.moved(state.params, 1))

    def project(params):
        z = (encode(x, params) for x in views)
        return [two_halves.normalised_mlp(x, params["projector"]) for x in z]

    targets = [unit(z) for z in project(jax.tree.map(np.float64, state.params))]

    def loss(params):
        p = [unit(mlp(z, params["predictor"])) for z in project(params)]
        return -((p[0] * targets[1]).sum(1) + (p[1] * targets[0]).sum(1)).mean() / 2

    moved = {"encoder", "projector", "predictor"}
    two_halves.assert_one_update_is(algorithm, state, given, loss, moved)


def test_weight_decay_and_first_scales_are_the_codes():
    config = simsiam_cifar10.get_config()
    assert config.pretrain.optimizer.decay_on == "all"
    assert config.model.zero_init_residual
    assert byol_stl10.get_config().pretrain.optimizer.decay_on == "all"  # htdt's Adam
    assert byol_stl10.get_config("paper96").pretrain.optimizer.decay_on == "kernels"
    assert byol_cifar10.get_config().pretrain.optimizer.decay_on == "kernels"
    assert not byol_cifar10.get_config().model.zero_init_residual


def test_collapse_shows_in_both_numbers(state, batch):
    """All projections alike, all features alike: std 0, effective rank 1."""
    algorithm = build(BYOL)
    params = jax.tree.map(np.copy, state.params)
    first = params["encoder"]["Dense_0"]
    first["kernel"], first["bias"] = first["kernel"] * 0, first["bias"] * 0 + 1
    collapsed = state.replace(params=params)
    eval_step, train_step = jax.jit(algorithm.eval_step), jax.jit(algorithm.train_step)
    held_out = batch | {"mask": np.ones(16, bool)}
    healthy, ill = (
        eval_step(s, held_out, jax.random.key(0))["effective_rank"].compute()
        for s in (state, collapsed)
    )
    assert ill == pytest.approx(1) and healthy > 3
    healthy, ill = (
        train_step(s, batch, jax.random.key(0))[1]["projection_std"].compute()
        for s in (state, collapsed)
    )
    assert ill == pytest.approx(0, abs=1e-3) and healthy > 0.3


def test_without_classes_there_is_no_probe_and_all_else_is_the_same(batch):
    """The probe sends no gradient into anything else."""
    steps = {}
    for num_classes in (0, 3):
        algorithm = build(BYOL)
        model = algorithm.model.clone(num_classes=num_classes)
        algorithm = dataclasses.replace(algorithm, model=model)
        given = batch | {"label": np.arange(16) % 3 if num_classes else batch["label"]}
        before = algorithm.init(jax.random.key(0), given)
        step = jax.jit(algorithm.train_step)
        steps[num_classes] = step(before, given, jax.random.key(1))
    (state, metrics), (judged, said) = steps[0], steps[3]
    assert judged.params.keys() - state.params.keys() == {"head"}
    assert said.keys() - metrics.keys() == {"accuracy"}
    for part in state.params:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            state.params[part],
            judged.params[part],
        )
