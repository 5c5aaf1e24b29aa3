"""Rates by depth: which layer of a network a parameter is of, and what that has of the
learning rate; for networks that go on from somebody's weights.

Layer 0 is what comes before an encoder's first block, layer i + 1 its block i, and
layer L + 1, of L blocks, what comes behind the last of them and whatever is not the
encoder's, such as a head. Layer l learns at decay^(L + 1 - l) of the rate (Clark et
al., arXiv:2003.10555; for images Bao et al., arXiv:2106.08254), as in
facebookresearch/mae (util/lr_decay.py at efb2a80). timm's param_groups_layer_decay,
which USB has as well, puts a ViT's final norm, and what an EfficientNet has behind its
blocks, to the last block; else its layers are these.
"""

import re

import jax
import jax.numpy as jnp
import optax

from ssl_jax.core import PyTree
from ssl_jax.errors import UserError

ALL, HEAD = "all", "head"  # words of optimizer.layers
_BLOCK = re.compile(r"(?:Block|BasicBlock|Bottleneck)_(\d+)")
_HALVED = re.compile(r"halved(?:_norm)?_(\d+)")  # ConvNeXt's, before a stage
_BEHIND = re.compile(r"norm|(?:Conv|BatchNorm)_[1-9]\d*")


def check(layer_decay: float, layers: str) -> None:
    """Raises UserError where `layers` is no word, and no number of blocks."""
    if layers not in (ALL, HEAD) and not (layers.isdecimal() and int(layers)):
        raise UserError(
            f"optimizer.layers={layers!r} is unknown: use 'all', 'head', or how many "
            "of the encoder's last blocks, '2'."
        )
    if layers == HEAD and layer_decay != 1:
        raise UserError(
            f"optimizer.layer_decay={layer_decay} is of an encoder's layers, and "
            "optimizer.layers='head' trains none: use 1.0."
        )


def by_layer(
    tx: optax.GradientTransformation, layer_decay: float, layers: str
) -> optax.GradientTransformation:
    """`tx`, whose updates are times what `shares` has for their parameters; `tx` itself
    where that is 1 for all.

    Raises:
      UserError: as `check`; when it is used, as `shares`.
    """
    check(layer_decay, layers)
    if layer_decay == 1 and layers == ALL:
        return tx

    def init(params):
        shares(params, layer_decay, layers)  # refuses before anything is compiled
        return optax.EmptyState()

    def update(updates, state, params):
        def scaled(update, share):
            # No product: what is not finite stays out of what rests.
            return update * share if share else jnp.zeros_like(update)

        share_of = shares(params, layer_decay, layers)
        return jax.tree.map(scaled, updates, share_of), state

    return optax.chain(tx, optax.GradientTransformation(init, update))


def shares(params: PyTree, layer_decay: float, layers: str) -> PyTree:
    """What each parameter has of the rate; 0: it stays as it is.

    Args:
      layers: which train: "all"; "head": what is not the encoder's; "2": its last two
        blocks, and what comes behind.

    Raises:
      UserError: the encoder has no blocks to tell its depth by, or fewer.
    """
    encoder = params.get("encoder", {})
    L = sum(_BLOCK.fullmatch(name) is not None for name in encoder)
    if layers != HEAD and not L:
        asked = f"layer_decay={layer_decay}" if layers == ALL else f"layers={layers!r}"
        raise UserError(
            f"optimizer.{asked} counts an encoder's blocks, and this one has none: use "
            "a resnet, wide_resnet, vit, convnext or efficientnet, or "
            "optimizer.layer_decay=1.0 and optimizer.layers='all' or 'head'."
        )
    first = {ALL: 0, HEAD: L + 2}.get(layers)
    if first is None:
        first = L + 1 - int(layers)
        if first < 1:
            raise UserError(
                f"optimizer.layers={layers!r}: the encoder has {L} blocks; use at most "
                f"'{L}', or 'all'."
            )

    def share(at, _):
        part, *within = (key.key for key in at)
        if part != "encoder":
            return 1.0
        layer = layer_of(within[0], encoder)
        return layer_decay ** (L + 1 - layer) if layer >= first else 0.0

    return jax.tree.map_with_path(share, params)


def layer_of(name: str, encoder: PyTree) -> int:
    """The layer that a module, or a parameter, of an encoder with blocks is of.

    Raises:
      UserError: it is a ConvNeXt in which a stage is as wide as the one before it.
    """
    blocks = {int(m[1]): n for n in encoder if (m := _BLOCK.fullmatch(n))}
    if name in blocks.values():
        return int(name.rpartition("_")[2]) + 1
    if halved := _HALVED.fullmatch(name):
        return 1 + _first_of_stages(blocks, encoder)[int(halved[1]) - 1]
    behind = _BEHIND.fullmatch(name) is not None
    if name == "BatchNorm_0":  # of the stem, or where blocks normalise first, the last
        stem = encoder["Conv_0"]["kernel"].shape[-1]
        behind = encoder[name]["scale"].shape != (stem,)
    return len(blocks) + 1 if behind else 0


def _first_of_stages(blocks, encoder):
    """The number of the first block of each stage but the first: it is wider than the
    one before it."""
    width = [encoder[blocks[i]]["LayerNorm_0"]["scale"].shape for i in sorted(blocks)]
    first = [i for i in range(1, len(width)) if width[i] != width[i - 1]]
    if len(first) < len({m[1] for name in encoder if (m := _HALVED.fullmatch(name))}):
        raise UserError(
            "optimizer.layer_decay and optimizer.layers tell a convnext's stages by "
            "their widths, and here one is as wide as the one before it: use other "
            "model.widths, or layer_decay=1.0 and layers='all' or 'head'."
        )
    return first
