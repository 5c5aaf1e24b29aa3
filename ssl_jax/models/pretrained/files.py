"""What a file of weights holds, whoever wrote it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.models.pretrained import torch_file

# Where a training run's file keeps the network, the most wanted first.
_NETWORKS = ("state_dict", "model", "teacher", "student")
_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16},
    **{"BF16": np.dtype(jnp.bfloat16), "BOOL": np.bool_, "U8": np.uint8},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
}
_SIDECARS = ("{stem}.json", "config.json")  # beside it: our own, timm's


class Input(NamedTuple):
    """How an image of grey levels 0 to 255 was brought to the network: its `shape`
    (H, W, C), and (x - mean) / std."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class File(NamedTuple):
    """Tensors by their names there, and what the network's input was, if that is
    said."""

    tensors: dict[str, np.ndarray]
    input: Input | None


def read(path: Path) -> File:
    """The tensors of a .safetensors, or of what PyTorch has saved; floats as float32.

    Raises:
      UserError: there is no such file, it cannot be read, or has no tensors.
    """
    if not path.is_file():
        raise UserError(f"model.weights={str(path)!r}: there is no such file.")
    if path.suffix == ".safetensors":
        tensors = _safetensors(path)
    else:
        tensors = _network(torch_file.read(path), path)
    return File(
        {name: _float32(tensor) for name, tensor in tensors.items()}, _input(path)
    )


def _safetensors(path):
    import safetensors  # here because nothing else of a run needs it

    try:
        held = safetensors.deserialize(path.read_bytes())
        # Its own way to NumPy knows no bfloat16.
        return {
            name: np.frombuffer(its["data"], _DTYPES[its["dtype"]]).reshape(
                its["shape"]
            )
            for name, its in held
        }
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"model.weights={str(path)!r} is no whole .safetensors file ({error}): "
            "fetch it again."
        ) from error
    except KeyError as error:
        raise UserError(
            f"model.weights={str(path)!r} has numbers of the kind {error}; there are "
            f"{', '.join(_DTYPES)}."
        ) from error


def _network(saved, path):
    """The dict of tensors in what was saved: itself, or one of `_NETWORKS`."""
    for candidate in _candidates(saved):
        tensors = {
            name: value
            for name, value in candidate.items()
            if isinstance(name, str) and isinstance(value, np.ndarray)
        }
        if tensors:
            return tensors
    there = f"a {type(saved).__name__}"
    if isinstance(saved, Mapping):
        there = sorted(map(str, saved))
    raise UserError(
        f"model.weights={str(path)!r} holds no network by its tensors' names: it has "
        f"{there}, and none of those is a dict of tensors; save model.state_dict()."
    )


def _candidates(saved: Any):
    if isinstance(saved, Mapping):
        for name in _NETWORKS:
            if isinstance(saved.get(name), Mapping):
                yield saved[name]
        yield saved


def _float32(tensor):
    floats = tensor.dtype.kind in "fV" or tensor.dtype.name == "bfloat16"
    return tensor.astype(np.float32) if floats else tensor


def _input(path):
    """What a file beside it says of the input: of our own export, or timm's
    config.json."""
    for pattern in _SIDECARS:
        beside = path.with_name(pattern.format(stem=path.stem))
        try:
            said = json.loads(beside.read_text())
        except (OSError, ValueError):
            continue
        if not isinstance(said, dict):
            continue
        if _has(its := said.get("input"), Input._fields):  # ssl_jax's
            return Input(*(tuple(its[name]) for name in Input._fields))
        _check_padding(said.get("architecture"), path)
        theirs = ("input_size", "mean", "std")
        if _has(its := said.get("pretrained_cfg", said), theirs):
            levels = [tuple(255 * v for v in its[name]) for name in ("mean", "std")]
            channels, height, width = its["input_size"]
            return Input((height, width, channels), *levels)
    return None


def _has(its, names):
    """Whether these are numbers of it, three of the first: the file may be anything."""
    if not isinstance(its, Mapping):
        return False
    lists = [its.get(name) for name in names]
    if not all(isinstance(each, list) and each for each in lists):
        return False
    numbers = (isinstance(number, int | float) for each in lists for number in each)
    return all(numbers) and len(lists[0]) == 3


def _check_padding(architecture, path):
    """Raises UserError for a network of timm's whose tensors alone are as ours."""
    if str(architecture).startswith("tf_efficientnet"):
        raise UserError(
            f"model.weights={str(path)!r} is of {architecture}, by the config.json "
            "beside it: its convolutions pad otherwise than those of model.name="
            "efficientnet; use timm's efficientnet_b0 or its kin without tf_."
        )
