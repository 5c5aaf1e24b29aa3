"""Files as torch.save writes them, without PyTorch: both its forms."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

_KINDS = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(jnp.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.bool_): "BoolStorage",
}


def _torch():
    """Modules that have what a pickle of tensors names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in _KINDS.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        called = types.FunctionType((lambda *_: None).__code__, {}, name)
        called.__module__, called.__qualname__ = "torch._utils", name
        setattr(utils, name, called)
    torch._utils = utils
    return torch


class Tensor:
    """A tensor to be saved: of an array, by strides in numbers; a parameter or not."""

    def __init__(self, array: np.ndarray, *, base: np.ndarray = None, parameter=False):
        self.array, self.parameter = array, parameter
        self.base = array if base is None else base


class _Storage:
    def __init__(self, array):
        self.array = array


class _Pickler(pickle.Pickler):
    def __init__(self, file, torch):
        super().__init__(file, protocol=2)
        self.torch, self.storages = torch, []

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        known = [i for i, a in enumerate(self.storages) if a is value.array]
        if not known:
            self.storages.append(value.array)
        key = str(known[0] if known else len(self.storages) - 1)
        kind = getattr(self.torch, _KINDS[value.array.dtype])
        return ("storage", kind, key, "cpu", value.array.size, *self.view)

    view = ()

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        array, base, utils = value.array, value.base, self.torch._utils
        start = array.__array_interface__["data"][0]
        offset = (start - base.__array_interface__["data"][0]) // base.itemsize
        strides = tuple(step // base.itemsize for step in array.strides)
        hooks = collections.OrderedDict()
        whole = (_Storage(base), offset, array.shape, strides, False, hooks)
        if not value.parameter:
            return utils._rebuild_tensor_v2, whole
        return utils._rebuild_parameter, (Tensor(array, base=base), True, hooks)


def save(path: Path, value: Any, *, older: bool = False) -> None:
    """torch.save, `older`: as PyTorch did before 1.6. Tensors in `value` are
    `Tensor`s."""
    torch = _torch()
    there = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": torch._utils})
    try:
        content = io.BytesIO()
        pickler = _Pickler(content, torch)
        if older:
            pickler.view = (None,)
        pickler.dump(value)
    finally:
        for name, module in there.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    if older:
        path.write_bytes(_older(content.getvalue(), pickler.storages))
        return
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("archive/data.pkl", content.getvalue())
        zipped.writestr("archive/byteorder", "little")
        for key, array in enumerate(pickler.storages):
            zipped.writestr(f"archive/data/{key}", array.tobytes())
        zipped.writestr("archive/version", "3\n")


def _older(pickled, storages):
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    before = [0x1950A86A20F9469CFC6C, 1001, about]
    keys = [str(key) for key in range(len(storages))]
    content = b"".join(pickle.dumps(each, protocol=2) for each in before)
    content += pickled + pickle.dumps(keys, protocol=2)
    for array in storages:
        content += struct.pack("<q", array.size) + array.tobytes()
    return content
