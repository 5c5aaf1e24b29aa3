"""Files of others' weights, laid into our networks by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import models
from ssl_jax.errors import UserError
from ssl_jax.models import pretrained
from ssl_jax.models.pretrained import layouts

DRAW = np.random.default_rng(0)


@functools.cache
def _network(name, side=8, **hparams):
    """Shapes of a network with a head of three classes."""
    model = models.build(name, num_classes=3, dtype="float32", **hparams)
    images = jnp.zeros((1, side, side, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def _fitted(tensors, network, name, partial=False):
    return pretrained.fitted(tensors, network, name=name, path="w.pth", partial=partial)


def _norm(name, channels, batch=True):
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)
    if batch:
        yield f"{name}.running_mean", (channels,)
        yield f"{name}.running_var", (channels,)
        yield f"{name}.num_batches_tracked", ()


def _linear(name, outputs, inputs, *kernel):
    yield f"{name}.weight", (outputs, inputs, *kernel)
    yield f"{name}.bias", (outputs,)


# Names and shapes of each library's tensors, as its own code has them, for a network
# with few channels.


def _resnet(bottleneck):
    expansion, last = (4, 3) if bottleneck else (1, 2)
    yield "conv1.weight", (2, 3, 3, 3)
    yield from _norm("bn1", 2)
    inputs = 2
    for stage, blocks in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
        width = 2 * 2**stage
        for block in range(blocks):
            at = f"layer{stage + 1}.{block}"
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            sizes = [inputs, *[width] * (last - 1), width * expansion]
            for i, kernel in enumerate(kernels):
                shape = (sizes[i + 1], sizes[i], kernel, kernel)
                yield f"{at}.conv{i + 1}.weight", shape
                yield from _norm(f"{at}.bn{i + 1}", sizes[i + 1])
            if block == 0 and (bottleneck or stage):
                shape = (width * expansion, inputs, 1, 1)
                yield f"{at}.downsample.0.weight", shape
                yield from _norm(f"{at}.downsample.1", width * expansion)
            inputs = width * expansion
    yield from _linear("fc", 3, inputs)


def _vit():
    """timm's, DINO's, and but for reg_token's name DINOv2's."""
    yield "cls_token", (1, 1, 4)
    yield "reg_token", (1, 2, 4)
    yield "pos_embed", (1, 7, 4)
    yield from _linear("patch_embed.proj", 4, 3, 4, 4)
    for i in range(2):
        at = f"blocks.{i}"
        yield from _norm(f"{at}.norm1", 4, batch=False)
        yield from _linear(f"{at}.attn.qkv", 12, 4)
        yield from _linear(f"{at}.attn.proj", 4, 4)
        yield f"{at}.ls1.gamma", (4,)
        yield from _norm(f"{at}.norm2", 4, batch=False)
        yield from _linear(f"{at}.mlp.fc1", 16, 4)
        yield from _linear(f"{at}.mlp.fc2", 4, 16)
        yield f"{at}.ls2.gamma", (4,)
    yield from _norm("norm", 4, batch=False)
    yield from _linear("head", 3, 4)


def _torchvision_vit():
    yield "class_token", (1, 1, 4)
    yield from _linear("conv_proj", 4, 3, 4, 4)
    yield "encoder.pos_embedding", (1, 5, 4)
    for i in range(2):
        at = f"encoder.layers.encoder_layer_{i}"
        yield from _norm(f"{at}.ln_1", 4, batch=False)
        yield f"{at}.self_attention.in_proj_weight", (12, 4)
        yield f"{at}.self_attention.in_proj_bias", (12,)
        yield from _linear(f"{at}.self_attention.out_proj", 4, 4)
        yield from _norm(f"{at}.ln_2", 4, batch=False)
        yield from _linear(f"{at}.mlp.0", 16, 4)
        yield from _linear(f"{at}.mlp.3", 4, 16)
    yield from _norm("encoder.ln", 4, batch=False)
    yield from _linear("heads.head", 3, 4)


def _convnext(stem, halved, block, parts, scale, norm, head, ones, scaled):
    """Depths (1, 2), widths (4, 6). `ones`: linear layers are 1x1 convolutions;
    `scaled`: the axes of a scale."""
    yield from _linear(f"{stem}.0", 4, 3, 2, 2)
    yield from _norm(f"{stem}.1", 4, batch=False)
    yield from _norm(f"{halved}.0", 4, batch=False)
    yield from _linear(f"{halved}.1", 6, 4, 2, 2)
    for stage, number, width in ((0, 0, 4), (1, 0, 6), (1, 1, 6)):
        at = block(stage, number)
        depthwise, layer_norm, first, second = (f"{at}.{part}" for part in parts)
        yield from _linear(depthwise, width, 1, 3, 3)
        yield from _norm(layer_norm, width, batch=False)
        yield from _linear(first, 4 * width, width, *ones)
        yield from _linear(second, width, 4 * width, *ones)
        yield f"{at}.{scale}", (width, *scaled)
    yield from _norm(norm, 6, batch=False)
    yield from _linear(head, 3, 6)


_TIMMS_CONVNEXT = dict(
    stem="stem",
    halved="stages.1.downsample",
    block=lambda stage, number: f"stages.{stage}.blocks.{number}",
    parts=("conv_dw", "norm", "mlp.fc1", "mlp.fc2"),
    scale="gamma",
    norm="head.norm",
    head="head.fc",
    ones=(1, 1),
    scaled=(),
)
_AUTHORS_CONVNEXT = dict(
    stem="downsample_layers.0",
    halved="downsample_layers.1",
    block=lambda stage, number: f"stages.{stage}.{number}",
    parts=("dwconv", "norm", "pwconv1", "pwconv2"),
    scale="gamma",
    norm="norm",
    head="head",
    ones=(),
    scaled=(),
)
_TORCHVISIONS_CONVNEXT = dict(
    stem="features.0",
    halved="features.2",
    block=lambda stage, number: f"features.{2 * stage + 1}.{number}",
    parts=("block.0", "block.2", "block.3", "block.5"),
    scale="layer_scale",
    norm="classifier.0",
    head="classifier.2",
    ones=(),
    scaled=(1, 1),
)
_STAGES = (  # of efficientnet_b0: blocks, kernel, expansion, channels
    *((1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80)),
    *((3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)),
)


def _efficientnet(torchvision):
    def convolution(timm, theirs, *shape):
        """A convolution and its BatchNorm: timm's names, torchvision's."""
        conv, norm = (f"{theirs}.0", f"{theirs}.1") if torchvision else timm
        yield f"{conv}.weight", shape
        yield from _norm(norm, shape[0])

    yield from convolution(("conv_stem", "bn1"), "features.0", 32, 3, 3, 3)
    inputs = 32
    for stage, (blocks, kernel, expansion, channels) in enumerate(_STAGES):
        for i in range(blocks):
            at = f"blocks.{stage}.{i}"
            block, part = f"features.{stage + 1}.{i}.block", 0
            wide = inputs * expansion
            if expansion > 1:
                names = (f"{at}.conv_pw", f"{at}.bn1")
                yield from convolution(names, f"{block}.0", wide, inputs, 1, 1)
                part = 1
            names = (f"{at}.conv_dw", f"{at}.bn{part + 1}")
            its = f"{block}.{part}"
            yield from convolution(names, its, wide, 1, kernel, kernel)
            squeeze = [f"{at}.se.conv_reduce", f"{at}.se.conv_expand"]
            if torchvision:
                squeeze = [f"{block}.{part + 1}.fc{n}" for n in (1, 2)]
            yield from _linear(squeeze[0], inputs // 4, wide, 1, 1)
            yield from _linear(squeeze[1], wide, inputs // 4, 1, 1)
            last = "conv_pwl" if expansion > 1 else "conv_pw"
            names = (f"{at}.{last}", f"{at}.bn{part + 2}")
            its = f"{block}.{part + 2}"
            yield from convolution(names, its, channels, wide, 1, 1)
            inputs = channels
    yield from convolution(("conv_head", "bn2"), "features.8", 1280, 320, 1, 1)
    yield from _linear("classifier.1" if torchvision else "classifier", 3, 1280)


def _tensors(names):
    return {n: DRAW.normal(size=shape).astype(np.float32) for n, shape in names}


VIT = dict(width=4, depth=2, heads=2, patch=4)
CONVNEXT = dict(depths=(1, 2), widths=(4, 6), patch=2, kernel=3)
RESNET = dict(stem="cifar", width=2)
FILES = {
    "resnet": (_resnet(False), "resnet", RESNET),
    "bottlenecks": (_resnet(True), "resnet", RESNET | dict(depth=50)),
    "vit": (_vit(), "vit", VIT | dict(registers=2, layer_scale=0.1)),
    "torchvision_vit": (_torchvision_vit(), "vit", VIT),
    "convnext": (_convnext(**_TIMMS_CONVNEXT), "convnext", CONVNEXT),
    "authors_convnext": (_convnext(**_AUTHORS_CONVNEXT), "convnext", CONVNEXT),
    "torchvision_convnext": (
        _convnext(**_TORCHVISIONS_CONVNEXT),
        "convnext",
        CONVNEXT,
    ),
    "efficientnet": (_efficientnet(False), "efficientnet", {}),
    "torchvision_efficientnet": (_efficientnet(True), "efficientnet", {}),
}
FILES = {key: (dict(names), *rest) for key, (names, *rest) in FILES.items()}


@pytest.mark.parametrize("key", FILES)
def test_each_layout_fills_its_network_and_leaves_nothing(key):
    """Every number of the file is there once; kernels are PyTorch's turned around."""
    names, name, hparams = FILES[key]
    tensors = _tensors(names.items())
    network = _network(name, side=32 if name == "efficientnet" else 8, **hparams)
    parts = _fitted(tensors, network, name).parts
    assert jax.tree.map(jnp.shape, parts) == jax.tree.map(jnp.shape, network)
    leaves = jax.tree.leaves_with_path(parts)
    filled = [leaf.ravel() for path, leaf in leaves if path[-1].key != "count"]
    given = [t.ravel() for n, t in tensors.items() if "num_batches" not in n]
    np.testing.assert_array_equal(
        *(np.sort(np.concatenate(each)) for each in (filled, given))
    )
    head = next(
        n for n, shape in names.items() if n.endswith("weight") and shape[0] == 3
    )
    np.testing.assert_array_equal(parts["params"]["head"]["kernel"], tensors[head].T)


def test_convolutions_have_our_axes_and_blocks_their_number():
    tensors = _tensors(FILES["convnext"][0].items())
    network = _network("convnext", **CONVNEXT)
    encoder = _fitted(tensors, network, "convnext").parts["params"]["encoder"]
    theirs = tensors["stages.1.blocks.1.conv_dw.weight"]
    ours = encoder["Block_2"]["Depthwise_0"]["kernel"]
    np.testing.assert_array_equal(ours[0, 2, :, 0], theirs[:, 0, 0, 2])
    ours = encoder["halved_1"]["kernel"]
    theirs = tensors["stages.1.downsample.1.weight"]
    np.testing.assert_array_equal(ours[0, 1, 2, 3], theirs[3, 2, 0, 1])
    ours = encoder["Block_1"]["Dense_0"]["kernel"]
    theirs = tensors["stages.1.blocks.0.mlp.fc1.weight"]
    np.testing.assert_array_equal(ours[2, 3], theirs[3, 2, 0, 0])


@pytest.mark.parametrize(
    ("before", "beside"),
    [
        ("module.", ()),
        ("backbone.", ("classifier.weight", "projector.0.weight")),  # solo-learn
        ("momentum_backbone.", ("x.y",)),
    ],
)
def test_a_network_is_found_where_it_is_a_part(before, beside):
    names = FILES["resnet"][0]
    tensors = {f"{before}{name}": 1 for name in names} | dict.fromkeys(beside, 1)
    layout, found = layouts.found(tensors)
    assert (layout.model, found) == ("resnet", before)
    both = tensors | {f"momentum_{name}": 1 for name in tensors}
    assert layouts.found(both)[1] == before


@pytest.mark.parametrize(
    ("key", "head"), [("resnet", "fc"), ("vit", "head"), ("vit", "mlp")]
)
def test_a_head_of_several_layers_is_a_head_of_another_kind(key, head):
    """MoCo's and USB's: left out with ours, and a misfit where that is wanted."""
    names, name, hparams = FILES[key]
    tensors = _tensors(names.items())
    for own in ("fc", "head"):
        tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{own}.")}
    tensors |= _tensors([*_linear(f"{head}.0", 5, 4), *_norm(f"{head}.1", 5)])
    network = _network(name, **hparams)
    encoder = {c: {"encoder": network[c]["encoder"]} for c in network}
    assert _fitted(tensors, encoder, name).misfits == ()
    with pytest.raises(UserError, match="head is of other classes.*leave that out"):
        _fitted(tensors, network, name)


def test_position_embeddings_come_along_in_any_form():
    """Of class token and registers, of the class token alone, or of patches alone; and
    resampled for images of another size."""
    names, _, hparams = FILES["vit"]
    for tokens, own in ((7, 3), (5, 1), (4, 0)):
        tensors = _tensors((names | {"pos_embed": (1, tokens, 4)}).items())
        position = tensors["pos_embed"][0]
        network = _network("vit", **hparams)
        its = _fitted(tensors, network, "vit").parts["params"]["encoder"]
        np.testing.assert_array_equal(its["position"].reshape(4, 4), position[own:])
        expected = np.concatenate([position[:own], np.zeros((3 - own, 4))])
        np.testing.assert_array_equal(its["prefix_position"], expected)
        without = _network("vit", **hparams, prefix_position=False)
        its = _fitted(tensors, without, "vit").parts["params"]["encoder"]
        both = np.concatenate([tensors["cls_token"][0], tensors["reg_token"][0]])
        ours = np.concatenate([its["class_token"], its["registers"]])
        np.testing.assert_allclose(ours, both + expected, rtol=1e-6)
    larger = _network("vit", side=16, **hparams)
    its = _fitted(tensors, larger, "vit").parts["params"]["encoder"]
    means = [its["position"].mean((0, 1)), tensors["pos_embed"][0].mean(0)]
    np.testing.assert_allclose(*means, atol=1e-6)


def test_what_does_not_fit_is_told_by_name():
    tensors = _tensors(FILES["resnet"][0].items())
    network = _network("resnet", **RESNET)

    def refused(match, tensors, network=network, name="resnet", **options):
        with pytest.raises(UserError, match=match):
            _fitted(tensors, network, name, **options)

    vit = _tensors(FILES["vit"][0].items())
    refused(r"holds a ViT in timm's .*name='resnet': use model.name=vit", vit)
    refused(r"no layout that is known \(a.b, c, ", {"a.b": 1, "c": 1})
    others = tensors | {"fc.weight": np.ones((10, 16), np.float32)}
    refused(
        r"(?s)head is of other classes.*keep=.*head.kernel is 16x10 .* 16x3 in the",
        others,
    )
    less = {n: t for n, t in tensors.items() if n != "layer2.0.conv1.weight"}
    less["layer9.0.extra.weight"] = np.ones(3, np.float32)
    line = r"BasicBlock_2.Conv_0.kernel of the network is not in the file"
    refused(r"(?s)model.partial=True.*layer9.0.extra.weight of the file.*" + line, less)
    refused(
        r"(?s)and \d+ more$", tensors, _network("resnet", **RESNET | dict(depth=34))
    )
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, leaf.dtype), network)
    fitted = _fitted(less, fresh, "resnet", partial=True)
    its = fitted.parts["params"]["encoder"]
    np.testing.assert_array_equal(its["BasicBlock_2"]["Conv_0"]["kernel"], 7.0)
    kernel = tensors["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(its["Conv_0"]["kernel"], kernel)
    assert len(fitted.misfits) == 2
    del less["bn1.running_mean"]  # so these moments are of no batch that was seen
    fitted = _fitted(less, fresh, "resnet", partial=True)
    moments = fitted.parts["batch_stats"]["encoder"]
    assert moments["BatchNorm_0"]["count"] == 7.0
    assert moments["BasicBlock_0"]["BatchNorm_0"]["count"] == 1e6
    encoder = {c: {"encoder": network[c]["encoder"]} for c in network}
    assert _fitted(others, encoder, "resnet").misfits == ()  # without a head


@pytest.mark.parametrize("prefix_position", [True, False])
def test_tensors_of_other_axes_are_misfits(prefix_position):
    """As a video's patches have, or MLPs that are convolutions of more than a pixel."""
    names, _, hparams = FILES["vit"]
    network = _network("vit", **hparams, prefix_position=prefix_position)
    tensors = _tensors(names.items())
    for name, shape, line in (
        ("patch_embed.proj.weight", (4, 3, 2, 4, 4), "patches.kernel is 4x3x2x4x4"),
        ("blocks.0.mlp.fc1.weight", (16, 4, 3, 3), "Dense_0.kernel is 3x3x4x16"),
        ("blocks.0.mlp.fc1.weight", (16, 4, 1), "Dense_0.kernel is 16x4x1"),
        *(
            ("pos_embed", shape, "position of the network is not in the file")
            for shape in ((7, 4), (2, 7, 4), (1, 7, 4, 1), ())
        ),
        ("pos_embed", (1, 7, 8), "position is 2x2x8 in the file"),
        ("cls_token", (2, 1, 4), "class_token is 8 in the file"),
        ("reg_token", (1, 2, 8), "registers is 2x8 in the file"),
    ):
        other = tensors | {name: np.ones(shape, np.float32)}
        with pytest.raises(UserError, match=f"(?s)does not fit the network.*{line}"):
            _fitted(other, network, "vit")
