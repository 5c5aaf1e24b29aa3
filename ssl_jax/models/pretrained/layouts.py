"""How others name the tensors of our networks, and how theirs become ours.

A layout is found by the names in a file, whatever module the network was part of:
timm's and torchvision's, solo-learn's ("backbone."), DINO's and DINOv2's (timm's names
for both) and ConvNeXt's authors'.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Names of one library's network.

    `block` is how a block's name begins, with its number, or that of its stage and its
    number in there; for `rules` it reads "#<stage>.<number over all stages>.". Each
    rule turns what a module is called into its name here, or a tensor's that is no
    module's weight or bias.
    """

    name: str  # for messages
    model: str  # models/<model>.py
    signs: tuple[str, ...]  # names that each file has
    block: str
    rules: tuple[tuple[str, str], ...]


_B = r"#\d+\.(\d+)\."  # a block
_RESNET = (
    (r"conv1", "Conv_0"),
    (r"bn1", "BatchNorm_0"),
    (r"fc", "head"),
    (r"fc\.(\d+)", r"head.\1"),  # MoCo's: an MLP, so none of ours
)
_VIT = (
    (r"norm|fc_norm", "norm"),
    (r"head", "head"),
    # Likewise MoCo's, and USB's, whose loader leaves out what begins so.
    (r"(?:head|mlp)\.(\d+)", r"head.\1"),
    (r"cls_token", "class_token"),
    (r"reg_token|register_tokens", "registers"),
    (r"pos_embed", "position"),
    (r"patch_embed\.proj", "patches"),
    (_B + r"norm1", r"Block_\1.attention_norm"),
    (_B + r"attn\.qkv", r"Block_\1.attention.qkv"),
    (_B + r"attn\.proj", r"Block_\1.attention.out"),
    (_B + r"ls1\.gamma", r"Block_\1.attention_scale"),
    (_B + r"norm2", r"Block_\1.mlp_norm"),
    (_B + r"mlp\.fc1", r"Block_\1.mlp.Dense_0"),
    (_B + r"mlp\.fc2", r"Block_\1.mlp.Dense_1"),
    (_B + r"ls2\.gamma", r"Block_\1.mlp_scale"),
)


def _resnet(block, convolutions):
    within = [
        (_B + f"{theirs}{i + 1}", rf"{block}_\1.{ours}_{i}")
        for i in range(convolutions)
        for theirs, ours in (("conv", "Conv"), ("bn", "BatchNorm"))
    ]
    shortcut = (
        (_B + r"downsample\.0", rf"{block}_\1.shortcut"),
        (_B + r"downsample\.1", rf"{block}_\1.shortcut_norm"),
    )
    return (*_RESNET, *within, *shortcut)


def _convnext(*, stem, halved, block, scale, norm, head):
    """Names of the stem and its norm, of what halves the image before a stage, by its
    number, and of a block's four modules and its scale."""
    ours = ("Depthwise_0", "LayerNorm_0", "Dense_0", "Dense_1")
    return (
        *zip(stem, ("stem", "stem_norm"), strict=True),
        *(
            (theirs, f"{name}_{stage}")
            for stage in (1, 2, 3)
            for theirs, name in zip(
                halved(stage), ("halved_norm", "halved"), strict=True
            )
        ),
        *((_B + t, rf"Block_\1.{o}") for t, o in zip(block, ours, strict=True)),
        (_B + scale, r"Block_\1.scale"),
        (norm, "norm"),
        (head, "head"),
    )


def _torchvisions_efficientnet():
    """Its first stage's blocks do not expand, and count from what the others call 1."""
    first, other = r"#1\.(\d+)\.", r"#[2-9]\.(\d+)\."
    for block, start in ((first, 1), (other, 0)):
        squeeze = rf"{block}{2 - start}\.fc"
        parts = ("Conv", "Depthwise", None, "Conv")[start:]
        convolutions = norms = 0
        for i, part in enumerate(parts):
            if part is None:
                yield squeeze + "1", r"Block_\1.Excitation_0.Conv_0"
                yield squeeze + "2", r"Block_\1.Excitation_0.Conv_1"
                continue
            number = convolutions if part == "Conv" else 0
            yield rf"{block}{i}\.0", rf"Block_\1.{part}_{number}"
            yield rf"{block}{i}\.1", rf"Block_\1.BatchNorm_{norms}"
            convolutions += part == "Conv"
            norms += 1


LAYOUTS = (
    Layout(
        "a ResNet of bottlenecks in torchvision's and timm's layout",
        "resnet",
        ("conv1.weight", "layer1.0.conv3.weight"),
        r"layer(\d+)\.(\d+)\.",
        _resnet("Bottleneck", 3),
    ),
    Layout(
        "a ResNet in torchvision's and timm's layout",
        "resnet",
        ("conv1.weight", "layer1.0.conv2.weight"),
        r"layer(\d+)\.(\d+)\.",
        _resnet("BasicBlock", 2),
    ),
    Layout(
        "a ViT in timm's and DINO's layout",
        "vit",
        ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
        r"blocks\.(\d+)\.",
        _VIT,
    ),
    Layout(
        "a ViT in torchvision's layout",
        "vit",
        ("conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"),
        r"encoder\.layers\.encoder_layer_(\d+)\.",
        (
            (r"class_token", "class_token"),
            (r"conv_proj", "patches"),
            (r"encoder\.pos_embedding", "position"),
            (r"encoder\.ln", "norm"),
            (r"heads\.head", "head"),
            (_B + r"ln_1", r"Block_\1.attention_norm"),
            (_B + r"self_attention\.in_proj", r"Block_\1.attention.qkv"),
            (_B + r"self_attention\.out_proj", r"Block_\1.attention.out"),
            (_B + r"ln_2", r"Block_\1.mlp_norm"),
            (_B + r"mlp\.(?:0|linear_1)", r"Block_\1.mlp.Dense_0"),
            (_B + r"mlp\.(?:3|linear_2)", r"Block_\1.mlp.Dense_1"),
        ),
    ),
    Layout(
        "a ConvNeXt in timm's layout",
        "convnext",
        ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight"),
        r"stages\.(\d+)\.blocks\.(\d+)\.",
        _convnext(
            stem=(r"stem\.0", r"stem\.1"),
            halved=lambda n: (
                rf"stages\.{n}\.downsample\.0",
                rf"stages\.{n}\.downsample\.1",
            ),
            block=("conv_dw", "norm", r"mlp\.fc1", r"mlp\.fc2"),
            scale="gamma",
            norm=r"head\.norm|norm",
            head=r"head\.fc|head",
        ),
    ),
    Layout(
        "a ConvNeXt in its authors' layout",
        "convnext",
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"),
        r"stages\.(\d+)\.(\d+)\.",
        _convnext(
            stem=(r"downsample_layers\.0\.0", r"downsample_layers\.0\.1"),
            halved=lambda n: (
                rf"downsample_layers\.{n}\.0",
                rf"downsample_layers\.{n}\.1",
            ),
            block=("dwconv", "norm", "pwconv1", "pwconv2"),
            scale="gamma",
            norm="norm",
            head="head",
        ),
    ),
    Layout(
        "a ConvNeXt in torchvision's layout",
        "convnext",
        ("features.0.0.weight", "features.1.0.layer_scale"),
        r"features\.(\d+)\.(\d+)\.(?=block|layer_scale)",
        _convnext(
            stem=(r"features\.0\.0", r"features\.0\.1"),
            halved=lambda n: (rf"features\.{2 * n}\.0", rf"features\.{2 * n}\.1"),
            block=(r"block\.0", r"block\.2", r"block\.3", r"block\.5"),
            scale="layer_scale",
            norm=r"classifier\.0",
            head=r"classifier\.2",
        ),
    ),
    Layout(
        "an EfficientNet in timm's layout",
        "efficientnet",
        ("conv_stem.weight", "blocks.0.0.se.conv_reduce.weight"),
        r"blocks\.(\d+)\.(\d+)\.",
        (
            (r"conv_stem", "Conv_0"),
            (r"bn1", "BatchNorm_0"),
            (r"conv_head", "Conv_1"),
            (r"bn2", "BatchNorm_1"),
            (r"classifier", "head"),
            (_B + r"conv_pw", r"Block_\1.Conv_0"),
            (_B + r"conv_dw", r"Block_\1.Depthwise_0"),
            (_B + r"conv_pwl", r"Block_\1.Conv_1"),
            (_B + r"se\.conv_reduce", r"Block_\1.Excitation_0.Conv_0"),
            (_B + r"se\.conv_expand", r"Block_\1.Excitation_0.Conv_1"),
            *((_B + f"bn{i + 1}", rf"Block_\1.BatchNorm_{i}") for i in range(3)),
        ),
    ),
    Layout(
        "an EfficientNet in torchvision's layout",
        "efficientnet",
        ("features.0.0.weight", "features.1.0.block.1.fc1.weight"),
        r"features\.(\d+)\.(\d+)\.block\.",
        (
            (r"features\.0\.0", "Conv_0"),
            (r"features\.0\.1", "BatchNorm_0"),
            (r"features\.8\.0", "Conv_1"),
            (r"features\.8\.1", "BatchNorm_1"),
            (r"classifier\.1", "head"),
            *_torchvisions_efficientnet(),
        ),
    ),
)

# What a network's tensors may have among them: a token for masked patches, and how many
# batches moments have seen.
_BESIDE = re.compile(r"(?:.*\.)?(?:mask_token|num_batches_tracked)")
_LEAVES = ("weight", "bias", "running_mean", "running_var")


def found(names: Iterable[str]) -> tuple[Layout, str] | None:
    """(layout, what stands before its names) of a file with these, such as
    "backbone."; None: of no layout known.

    Of several networks in a file it is the one whose names are shortest, and MoCo's
    query rather than its key.
    """
    names = set(names)
    for layout in LAYOUTS:
        before_each = {
            name.removesuffix(layout.signs[0])
            for name in names
            if name.endswith(layout.signs[0])
        }
        for before in sorted(before_each, key=lambda b: (len(b), "_k." in b, b)):
            whole = all(before + sign in names for sign in layout.signs)
            if whole and (not before or before.endswith(".")):
                return layout, before
    return None


def ours(
    layout: Layout, before: str, tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """({our name: tensor with our axes}, names there that are none of the network's).

    Ours are those of `train.exported`, "Block_0.mlp.Dense_0.kernel", and "head.kernel";
    but "position", which stays [1, tokens, D]. Names that do not begin with `before`
    are of something else, such as a projector, and of neither.
    """
    own = {
        name.removeprefix(before): tensor
        for name, tensor in tensors.items()
        if name.startswith(before) and not _BESIDE.fullmatch(name)
    }
    numbers, renamed, left = _numbers(layout.block, own), {}, []
    for name, tensor in own.items():
        if to := _renamed(layout, numbers, name, tensor.ndim):
            renamed[to] = _with_our_axes(to, tensor)
        else:
            left.append(before + name)
    return renamed, left


def _numbers(block, names):
    """{how a block's name begins: "#<stage>.<number over all stages>."}"""
    there = {}
    for name in names:
        if begins := re.match(block, name):
            there[begins[0]] = tuple(map(int, begins.groups()))
    in_order = sorted(set(there.values()))
    return {begins: f"#{at[0]}.{in_order.index(at)}." for begins, at in there.items()}


def _renamed(layout, numbers, name, ndim):
    """Our name, or None."""
    if begins := re.match(layout.block, name):
        name = numbers[begins[0]] + name.removeprefix(begins[0])
    name = re.sub(r"in_proj_(weight|bias)$", r"in_proj.\1", name)  # of PyTorch's own
    module, _, leaf = name.rpartition(".")
    if leaf not in _LEAVES:
        module, leaf = name, ""
    for theirs, to in layout.rules:
        if match := re.fullmatch(theirs, module):
            weight = "kernel" if ndim > 1 else "scale"
            said = {"weight": weight, "running_mean": "mean", "running_var": "var"}
            return match.expand(to) + (f".{said.get(leaf, leaf)}" if leaf else "")
    return None


def _with_our_axes(to, tensor):
    module, _, leaf = to.rpartition(".")
    if leaf != "kernel":
        whole = to in ("class_token", "registers") and tensor.ndim == 3
        if whole and len(tensor) == 1:
            return tensor[0]
        return tensor if to == "position" else tensor.reshape(-1)
    if tensor.ndim == 2:
        return tensor.T
    if tensor.ndim != 4:
        return tensor  # as of a video's patches: a misfit
    last = module.rpartition(".")[2]
    if last.startswith("Dense") and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0].T
    depthwise = last.startswith("Depthwise")
    return tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
