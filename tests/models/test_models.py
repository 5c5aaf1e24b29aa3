"""Parameter counts of the papers' networks, and what precision they compute in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stl10
from ssl_jax import models
from ssl_jax.core import named
from ssl_jax.errors import UserError


def _shapes(name, image, num_classes, dtype="float32", **hparams):
    model = models.build(name, num_classes=num_classes, dtype=dtype, **hparams)
    key, images = jax.random.key(0), jnp.zeros((2, *image))
    return jax.eval_shape(lambda: model.init(key, images, train=False))


@pytest.mark.parametrize(
    ("image", "classes", "hparams", "count"),
    [
        ((32, 32, 3), 10, {}, 1_467_610),  # WRN-28-2 (FixMatch, section 4)
        # 5.93 million, says google-research/fixmatch#34
        ((96, 96, 3), 10, {"scales": 4}, 5_929_434),
        ((32, 32, 3), 100, {"widen": 8}, 23_401_012),  # WRN-28-8, CIFAR-100
    ],
)
def test_wide_resnet_has_the_papers_parameters(image, classes, hparams, count):
    params = _shapes("wide_resnet", image, classes, **hparams)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
    ("words", "sizes"), [("", [96, 48, 24, 12]), ("torchssl", [48, 24, 12, 6])]
)
def test_stl10s_network_halves_the_image_as_the_code_that_it_is_of(words, sizes):
    config = stl10.get_config(words).model
    model = models.build(num_classes=10, **config)

    def outputs():
        keep = dict(capture_intermediates=True, mutable=["intermediates"])
        images = jnp.zeros((1, 96, 96, 3))
        variables = model.init(jax.random.key(0), images, train=False)
        return model.apply(variables, images, train=False, **keep)[1]

    seen = jax.eval_shape(outputs)["intermediates"]["encoder"]
    blocks = [seen[f"Block_{i}"]["__call__"][0].shape[1] for i in range(16)]
    assert blocks == [size for size in sizes for _ in range(4)]


def test_convnet_parameters():
    params = _shapes("convnet", (8, 8, 1), 10, filters=(16, 32))["params"]
    convolutions = 9 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 32)
    batch_norms = 2 * (16 + 16 + 32 + 32)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (
        convolutions + batch_norms + 32 * 10 + 10
    )


@pytest.mark.parametrize(
    ("depth", "count"),  # torchvision's, as its documentation gives them
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)],
)
def test_resnet_has_torchvisions_parameters(depth, count):
    params = _shapes("resnet", (224, 224, 3), 1000, depth=depth)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("depth", "last"), [(18, "BatchNorm_1"), (50, "BatchNorm_2")])
def test_residual_blocks_start_as_their_shortcuts_if_told(depth, last, zero):
    options = dict(depth=depth, stem="cifar", width=1, zero_init_residual=zero)
    model = models.build("resnet", num_classes=2, dtype="float32", **options)

    def scales():
        variables = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)), train=False)
        leaves = jax.tree.leaves_with_path(variables["params"])
        names = ((jax.tree_util.keystr(path), leaf) for path, leaf in leaves)
        return {name: leaf for name, leaf in names if name.endswith("['scale']")}

    # Compiled, it leaves out what scales do not need: the rest of the network.
    for name, scale in jax.jit(scales)().items():
        expected = 0 if zero and f"'{last}'" in name else 1
        np.testing.assert_array_equal(scale, expected, err_msg=name)


_BLOCKS = {18: ("BasicBlock", 8, 512), 50: ("Bottleneck", 16, 2048)}


@pytest.mark.parametrize(
    ("depth", "stem", "side", "sizes"),
    [
        (18, "imagenet", 224, [56, 28, 14, 7]),
        (50, "imagenet", 224, [56, 28, 14, 7]),  # its stages are those of any stem
        (18, "cifar", 32, [32, 16, 8, 4]),
        (18, "stl10", 64, [32, 16, 8, 4]),
        (18, "stl10", 33, [17, 9, 5, 3]),
    ],
)
def test_resnet_stages_halve_the_image(depth, stem, side, sizes):
    model = models.build(
        "resnet", num_classes=10, dtype="float32", depth=depth, stem=stem
    )
    block, count, width = _BLOCKS[depth]
    key, images = jax.random.key(0), jnp.zeros((2, side, side, 3))

    def outputs():
        keep = dict(capture_intermediates=True, mutable=["intermediates"])
        variables = model.init(key, images, train=False)
        return model.apply(variables, images, train=False, **keep)[1]

    seen = jax.eval_shape(outputs)["intermediates"]["encoder"]
    shapes = [seen[f"{block}_{i}"]["__call__"][0].shape for i in range(count)]
    assert list(dict.fromkeys(shapes)) == [
        (2, size, size, width // 8 * 2**stage) for stage, size in enumerate(sizes)
    ]
    assert seen["__call__"][0].shape == (2, width)


def _windows(x, size, fill):
    """[B, H, W, C] -> [B, H, W, C, size, size], padded by size // 2 on all sides."""
    pad = [(0, 0), *[(size // 2, size // 2)] * 2, (0, 0)]
    x = np.pad(x, pad, constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))


def _conv(x, weights, stride=1):
    windows = _windows(x, len(weights["kernel"]), 0)[:, ::stride, ::stride]
    return np.tensordot(windows, weights["kernel"], [(4, 5, 3), (0, 1, 2)])


def _norm(x, weights):
    x = (x - weights["mean"]) / np.sqrt(weights["var"] + 1e-5)
    return x * weights["scale"] + weights["bias"]


def _resnet(x, encoder, depth, stem_stride, pool):
    """torchvision's ResNet.forward in evaluation, up to the pooled features."""
    x = _conv(x, encoder["Conv_0"], stem_stride)
    x = np.maximum(_norm(x, encoder["BatchNorm_0"]), 0)
    if pool:
        x = _windows(x, 3, -np.inf)[:, ::2, ::2].max((4, 5))
    name, count, _ = _BLOCKS[depth]
    for i in range(count):
        block, y = encoder[f"{name}_{i}"], x
        stride = 2 if i > 0 and "shortcut" in block else 1
        strides = {18: (stride, 1), 50: (1, stride, 1)}[depth]
        for j, stride_j in enumerate(strides):
            y = np.maximum(y, 0) if j else y
            y = _conv(y, block[f"Conv_{j}"], stride_j)
            y = _norm(y, block[f"BatchNorm_{j}"])
        if "shortcut" in block:
            x = _norm(_conv(x, block["shortcut"], stride), block["shortcut_norm"])
        x = np.maximum(x + y, 0)
    return x.mean((1, 2))


@pytest.mark.parametrize(
    ("depth", "stem", "stem_stride", "pool"),
    [(18, "imagenet", 2, True), (50, "cifar", 1, False)],
)
def test_resnet_equals_torchvisions_forward_in_float64(depth, stem, stem_stride, pool):
    side = 32 if pool else 8  # the last stage sees 1 px
    form = dict(depth=depth, stem=stem, width=8)
    shapes = _shapes("resnet", (side, side, 3), 2, **form)
    draw = np.random.default_rng(0)

    def weights(path, leaf):
        if path[-1].key == "kernel":
            return draw.normal(size=leaf.shape) * np.sqrt(1 / np.prod(leaf.shape[:-1]))
        return draw.uniform(0.5, 1.5, leaf.shape)

    variables = jax.tree.map_with_path(weights, shapes)
    images = draw.normal(size=(2, side, side, 3))
    params, stats = (variables[c]["encoder"] for c in ("params", "batch_stats"))
    expected = _resnet(images, _merge(params, stats), depth, stem_stride, pool)

    model = models.build("resnet", num_classes=2, dtype="float32", **form)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False, method="features"))
    features = apply(*jax.tree.map(jnp.float32, (variables, images)))
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def _merge(params, stats):
    """BatchNorm's parameters and statistics in one dictionary."""
    if not isinstance(params, dict):
        return params
    both = {**params, **{k: v for k, v in stats.items() if k not in params}}
    return {k: _merge(v, stats.get(k, {})) for k, v in both.items()}


def test_mlp_is_the_tutorials_encoder():
    """784 - 32 with ReLU, by hand; kernels uniform within sqrt(6 / (784 + 32))."""
    model = models.build("mlp", num_classes=10, dtype="float32")
    images = jax.random.normal(jax.random.key(1), (3, 28, 28, 1))
    init = jax.jit(model.init, static_argnames="train")
    variables = init(jax.random.key(0), images, train=False)
    (dense,) = variables["params"]["encoder"].values()
    kernel, limit = np.float64(dense["kernel"]), np.sqrt(6 / (784 + 32))
    assert kernel.shape == (784, 32) and not dense["bias"].any()
    assert 0.99 * limit < abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    features = model.apply(variables, images, train=False, method="features")
    expected = np.maximum(np.float64(images).reshape(3, 784) @ kernel, 0)
    np.testing.assert_allclose(features, expected, atol=1e-5)
    deep = _shapes("mlp", (8, 8, 1), 10, features=(32, 16))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(deep)) == (
        65 * 32 + 33 * 16 + 17 * 10
    )


@pytest.mark.parametrize("name", ["wide_resnet", "convnet"])
def test_bfloat16_computes_so_and_keeps_the_rest_float32(name):
    small = {"wide_resnet": {"widen": 1, "blocks": 1}, "convnet": {"filters": (8,)}}
    model = models.build(name, num_classes=10, dtype="bfloat16", **small[name])
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    init = jax.jit(model.init, static_argnames="train")
    variables = init(jax.random.key(0), images, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def apply(model):
        return jax.jit(
            lambda v: model.apply(v, images, train=True, mutable=["batch_stats"])
        )(variables)

    logits_BK, moved = apply(model)
    assert logits_BK.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype("float32")}
    jaxpr = str(jax.make_jaxpr(lambda: apply(model))())
    assert "bf16" in jaxpr
    in_float32 = models.build(name, num_classes=10, dtype="float32", **small[name])
    assert jnp.abs(logits_BK - apply(in_float32)[0]).max() < 0.1


@pytest.mark.parametrize(("name", "products"), [("resnet", 1 + 16 + 3), ("mlp", 1)])
def test_encoder_multiplies_in_bfloat16_and_the_head_in_float32(name, products):
    model = models.build(name, num_classes=10, dtype="bfloat16")
    images = jnp.zeros((4, 32, 32, 3))
    variables = _shapes(name, (32, 32, 3), 10, "bfloat16")

    def forward(variables):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    dtypes = [
        equation.invars[0].aval.dtype
        for equation in jax.make_jaxpr(forward)(variables).eqns
        if equation.primitive.name in ("conv_general_dilated", "dot_general")
    ]
    assert dtypes == [jnp.bfloat16] * products + [jnp.float32]
    outputs = jax.tree.leaves((variables, jax.eval_shape(forward, variables)))
    assert {leaf.dtype for leaf in outputs} == {jnp.dtype("float32")}


def test_first_scale_alone_activates_before_the_residual():
    """The shortcut of the very first block starts after BatchNorm and LeakyReLU."""
    model = models.build(
        "wide_resnet", num_classes=2, dtype="float32", widen=1, blocks=1, scales=1
    )
    images = jnp.ones((1, 4, 4, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    params = variables["params"]["encoder"]
    # Without the two convolutions the block is its shortcut.
    block = {
        name: jax.tree.map(jnp.zeros_like, part) if name.startswith("Conv") else part
        for name, part in params["Block_0"].items()
    }
    variables["params"]["encoder"] = {**params, "Block_0": block}
    stem = jax.lax.conv_general_dilated(
        images, params["Conv_0"]["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip

    def norm_and_activate(x):  # at initialisation: mean 0, variance 1
        return jax.nn.leaky_relu(x / jnp.sqrt(1 + 1e-3), 0.1)

    expected = norm_and_activate(norm_and_activate(stem)).mean((1, 2))
    features = model.apply(variables, images, train=False, method="features")
    assert jnp.allclose(features, expected, atol=1e-6)


def test_unknown_names_list_what_exists():
    with pytest.raises(UserError, match=r"'resnext.*convnet.*wide_resnet"):
        models.build("resnext", num_classes=10, dtype="float32")
    with pytest.raises(UserError, match=r"depth=101 .*18, 34, 50"):
        models.build("resnet", num_classes=10, dtype="float32", depth=101)
    with pytest.raises(UserError, match=r"stem='big' .*'cifar', 'imagenet', 'stl10'"):
        models.build("resnet", num_classes=10, dtype="float32", stem="big")
    with pytest.raises(TypeError, match="depth"):
        models.build("convnet", num_classes=10, dtype="float32", depth=3)


IMAGES = [
    name
    for name in named.modules(models.__name__)
    if models.find(name).takes == "images"
]


@pytest.mark.parametrize("name", IMAGES)
def test_networks_of_images_take_any_number_of_them(name):
    """As an exported program does."""
    model = models.build(name, num_classes=3, **models.hparams(name))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    variables = jax.eval_shape(init, image)
    (B,) = jax.export.symbolic_shape("B")
    images = jax.ShapeDtypeStruct((B, 32, 32, 3), np.float32)
    apply = functools.partial(model.apply, train=False)
    assert jax.eval_shape(apply, variables, images).shape == (B, 3)


@pytest.mark.parametrize("name", IMAGES)
def test_what_stands_in_for_a_network_takes_digits(name):
    small, hparams = models.stand_in(name) or (name, {})
    model = models.build(small, num_classes=3, **(models.hparams(small) | hparams))
    image = jnp.zeros((2, 8, 8, 1))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    assert shapes["params"]["head"]["kernel"].shape[1] == 3


@pytest.mark.parametrize(
    "name, hparams",
    [
        ("vit", dict(width=64, depth=1, heads=2, patch=4)),
        ("convnext", dict(depths=(1,), widths=(64,))),
    ],
)
def test_kernels_begin_as_timms(name, hparams):
    """trunc_normal_(std=.02) of its weight_init.py cuts at 2, so at 100 deviations."""
    model = models.build(name, num_classes=2, dtype="float32", **hparams)
    init = jax.jit(functools.partial(model.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]["encoder"]
    kernels = [
        leaf
        for at, leaf in jax.tree.leaves_with_path(params["Block_0"])
        if at[-1].key == "kernel" and leaf.size > 4_000
    ]
    assert kernels
    for kernel in kernels:
        assert np.std(kernel) == pytest.approx(0.02, rel=0.03)
        assert np.abs(kernel).max() > 3 * 0.02
