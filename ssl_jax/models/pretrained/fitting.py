"""A file's tensors laid into a network."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.core import PyTree
from ssl_jax.errors import UserError
from ssl_jax.models.pretrained import layouts
from ssl_jax.models.vit import resampled

_MANY = 1e6  # batches that moments have seen which come from a file
_SHOWN = 20  # names of what does not fit; then their number


class Fitted(NamedTuple):
    """The parts of a network as `core.init_state` lays them over fresh ones, a line for
    each tensor that did not fit, and what the file holds."""

    parts: PyTree
    misfits: tuple[str, ...]
    holds: str


def fitted(
    tensors: Mapping[str, np.ndarray],
    network: PyTree,
    *,
    name: str,
    path: str,
    partial: bool,
) -> Fitted:
    """The tensors of a file in place of a network's variables.

    Args:
      tensors: by the names of any layout of `layouts`, or of `train.exported`.
      network: {"params": {"encoder": ...}, "batch_stats": {"encoder": ...}}, and "head"
        in "params" if that comes along: arrays, or of `partial` False their shapes.
      name: of the model, "vit".
      path: of the file, for messages.
      partial: whether it may lack tensors of the network, and have others; what the
        network has stays where the file has nothing that fits.

    Raises:
      UserError: another network's; or it does not fit, by names.
    """
    wanted = dict(_named(network))
    if any(each.endswith(".kernel") for each in tensors):
        given, misfits, holds = dict(tensors), [], "an encoder that ssl_jax exported"
    else:
        given, misfits, holds = _ours(tensors, name, path)
        if {"position", "class_token"} & wanted.keys():
            given = _tokens(given, wanted)
    if {"position"} <= wanted.keys() & given.keys():
        given["position"] = _on_grid(given["position"], wanted["position"].shape)
    # Our own files have theirs.
    counts = {n for n in wanted if n.endswith(".count")} - given.keys()
    taken = {}
    for each, leaf in wanted.items():
        if each in counts:
            continue
        if each not in given:
            misfits.append(f"{each} of the network is not in the file")
        elif given[each].shape != leaf.shape:
            misfits.append(
                f"{each} is {_form(given[each])} in the file, {_form(leaf)} in the "
                "network"
            )
        else:
            taken[each] = np.asarray(given[each], leaf.dtype)
    others = sorted(n for n in given.keys() - wanted.keys() if not _is_head(n))
    misfits += [f"{each} of the file is not in the network" for each in others]
    if misfits and not partial:
        raise UserError(_refusal(misfits, path))
    if not taken:
        raise UserError(f"model.weights={path!r}: nothing of it fits the network.")
    for each in counts:
        if f"{each.removesuffix('count')}mean" in taken:
            taken[each] = np.asarray(_MANY, wanted[each].dtype)
    parts = jax.tree.map_with_path(lambda at, leaf: taken.get(_name(at), leaf), network)
    return Fitted(parts, tuple(misfits), holds)


def _ours(tensors, name, path):
    """({our name: tensor}, a line for each that is none of the network's, what the file
    holds)."""
    found = layouts.found(tensors)
    if found is None:
        some = ", ".join(sorted(tensors)[:5])
        raise UserError(
            f"model.weights={path!r} has names of no layout that is known ({some}, "
            "...): there are timm's, torchvision's, DINO's and ssl_jax's, of resnet, "
            "vit, convnext and efficientnet."
        )
    layout, before = found
    if layout.model != name:
        raise UserError(
            f"model.weights={path!r} holds {layout.name}, and model.name={name!r}: use "
            f"model.name={layout.model}."
        )
    given, left = layouts.ours(layout, before, tensors)
    misfits = [f"{each} of the file is no part of {name}" for each in left]
    return given, misfits, layout.name


def _named(network: PyTree) -> Iterator[tuple[str, jax.Array]]:
    for at, leaf in jax.tree.leaves_with_path(network):
        yield _name(at), leaf


def _name(at) -> str:
    """Without its collection, and "encoder": "Conv_0.kernel", "head.kernel"."""
    _, part, *rest = (key.key for key in at)
    return ".".join(rest if part == "encoder" else [part, *rest])


def _is_head(name):
    return name.startswith("head.")


def _tokens(given, wanted):
    """Theirs have the position embeddings of all tokens in one, [1, tokens, D]; ours
    have those of patches by rows and columns, and of class token and registers apart.

    timm's newer networks have none for the latter, and DINOv2's for the class token
    alone: those are 0 then. Where the network has none, they are part of the tokens,
    which is the same function.
    """
    given = dict(given)
    position_1TD = given.pop("position", np.zeros((1, 0, 0)))
    if position_1TD.ndim != 3 or len(position_1TD) != 1:
        return given  # without a position, which is told
    position_TD = position_1TD[0]
    prefix = [each for each in ("class_token", "registers") if each in given]
    ends = np.cumsum([len(given[each]) for each in prefix], dtype=int)
    T, P = len(position_TD), int(ends[-1]) if prefix else 0
    square = [n for n in (0, 1, P) if T > n and math.isqrt(T - n) ** 2 == T - n]
    if not square or square[0] > P:
        return given  # likewise
    (own, *_), D = square, position_TD.shape[1]
    side = math.isqrt(T - own)
    given["position"] = position_TD[own:].reshape(side, side, D)
    if any(given[each].shape[1:] != (D,) for each in prefix) or not prefix:
        return given
    prefix_PD = np.concatenate([position_TD[:own], np.zeros((P - own, D), np.float32)])
    if "prefix_position" in wanted:
        return given | {"prefix_position": prefix_PD}
    for each, own_PD in zip(prefix, np.split(prefix_PD, ends[:-1]), strict=True):
        given[each] = given[each] + own_PD
    return given


def _on_grid(position_hwD, shape):
    """Resampled for a network whose images have another grid of patches."""
    alike = position_hwD.ndim == 3 and position_hwD.shape[-1] == shape[-1]
    if not alike or not position_hwD.size:
        return position_hwD  # a misfit
    return np.asarray(resampled(jnp.asarray(position_hwD), shape[:2]))


def _form(leaf):
    return "x".join(map(str, leaf.shape)) or "a number"


def _refusal(misfits, path):
    more = len(misfits) - _SHOWN
    lines = [*misfits[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    listed = "\n".join(f"  {line}" for line in lines)
    remedy = "change config.model to theirs, or take what fits by model.partial=True"
    if all(_is_head(line) for line in misfits):
        remedy = (
            "its head is of other classes, or none: leave that out by the phase's "
            "keep=('encoder',)"
        )
    return f"model.weights={path!r} does not fit the network: {remedy}.\n{listed}"
