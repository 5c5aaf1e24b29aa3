"""Tensors of a file by `torch.save`, without PyTorch and without running what it says.

Such a file is a pickle, and a pickle is a program: it may call any function there is.
This one is read by an unpickler that knows six names and nothing else: what builds a
tensor or a parameter, OrderedDict, and the kinds of storages. Any other name ends it
before anything is called.

Two forms: since PyTorch 1.6 a zip of data.pkl and data/0, data/1, ...; before that, and
still for much of torchvision's, five pickles and then the storages one after the other.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C  # of the older form
_PROTOCOL = 1001
_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Forbidden(Exception):
    """A name that the file asks for; nothing of it has been called."""


class Storage(NamedTuple):
    """Numbers that tensors are cut from."""

    key: str
    dtype: type
    numel: int


class Tensor(NamedTuple):
    """A part of a storage, whose numbers are not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Dict(dict):
    """An OrderedDict; what PyTorch sets on it, its `_metadata`, is left out."""

    __slots__ = ()

    def __setstate__(self, state):
        del state


class _Kind(NamedTuple):
    """The class of a storage, as a pickle refers to it."""

    dtype: type


def _tensor(storage, offset, size, stride, *_):
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor of no storage")
    return Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _parameter(tensor, *_):
    return tensor


class _Callable:
    """A function that a pickle may call, and set nothing on."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable):
        self._call = call

    def __call__(self, *args):
        return self._call(*args)

    def __setstate__(self, state):
        raise Forbidden("state of a function")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Callable(_tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Callable(_parameter)
        if module == "torch" and name in _DTYPES:
            return _Kind(_DTYPES[name])
        raise Forbidden(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Storage:
        said, kind, key, _, numel, *view = pid
        if said != "storage" or not isinstance(kind, _Kind) or (view and view[0]):
            raise pickle.UnpicklingError("what is stored apart is no storage")
        return Storage(str(key), kind.dtype, int(numel))


def read(path: Path) -> Any:
    """What was saved: dicts, lists and plain values, with arrays for tensors.

    Raises:
      UserError: the file is none of PyTorch's, is cut off, or asks for anything but
        tensors; then nothing that it asks for has been called.
    """
    try:
        with open(path, "rb") as file:
            form = _zipped if zipfile.is_zipfile(file) else _older
            file.seek(0)  # it has looked
            return form(file)
    except Forbidden as error:
        raise UserError(
            f"model.weights={str(path)!r} asks for {error}, and a file of weights may "
            "hold tensors alone: nothing of it was run. Save those by themselves, as "
            'torch.save(model.state_dict(), "weights.pth").'
        ) from error
    except OSError as error:
        raise UserError(
            f"model.weights={str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    except Exception as error:  # a pickle that is cut off may raise anything
        raise UserError(
            f"model.weights={str(path)!r} is no whole file by torch.save ({error}): "
            "fetch it again, or give a .safetensors."
        ) from error


def _zipped(file):
    with zipfile.ZipFile(file) as zipped:
        names = zipped.namelist()
        (pickled,) = [n for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")

        def stored(name):
            info = zipped.getinfo(name)
            if info.compress_type != zipfile.ZIP_STORED:  # may be a bomb
                raise ValueError("it is compressed, which PyTorch's are not")
            return zipped.read(info)

        order = f"{folder}byteorder"
        if order in names and stored(order).strip() != b"little":
            raise ValueError("its numbers are big-endian")
        saved = _Unpickler(io.BytesIO(stored(pickled))).load()
        return _with_arrays(
            saved, lambda storage: stored(f"{folder}data/{storage.key}")
        )


def _older(file):
    magic, protocol, about = (_Unpickler(file).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("it begins otherwise")
    if not about.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    saved = _Unpickler(file).load()
    keys = [str(key) for key in _Unpickler(file).load()]
    sizes = {s.key: np.dtype(s.dtype).itemsize for s in _storages(saved)}
    contents = {}
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        length = numel * sizes.get(key, 0)
        if key not in sizes or numel < 0:
            raise ValueError(f"storage {key} belongs to no tensor")
        contents[key] = file.read(length)
    return _with_arrays(saved, lambda storage: contents[storage.key])


def _storages(saved):
    waiting, seen = [saved], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value.storage
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value


def _with_arrays(saved, content):
    """`saved` with the array of each tensor; each storage is read once, and what stands
    in several places is filled once: in a few bytes that may be more places than there
    is memory for."""
    arrays, filled_of = {}, {}

    def numbers(storage):
        if storage.key not in arrays:
            array = np.frombuffer(content(storage), storage.dtype)
            if len(array) != storage.numel:
                raise ValueError(
                    f"storage {storage.key} has {len(array)} numbers for "
                    f"{storage.numel}"
                )
            arrays[storage.key] = array
        return arrays[storage.key]

    def filled(value):
        if id(value) not in filled_of:
            filled_of[id(value)] = anew(value)
        return filled_of[id(value)]

    def anew(value):
        if isinstance(value, Tensor):
            return _array(value, numbers(value.storage))
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [filled(item) for item in value]
        return value

    return filled(saved)


def _array(tensor, numbers):
    size, stride = tensor.size, tensor.stride
    count = int(np.prod(size, dtype=object)) if size else 1
    last = tensor.offset + sum(
        (n - 1) * step for n, step in zip(size, stride, strict=True)
    )
    sound = (
        tensor.offset >= 0 and min(size, default=1) >= 0 and min(stride, default=0) >= 0
    )
    if not sound or (count and last >= len(numbers)) or count > len(numbers):
        raise ValueError("a tensor is larger than its storage")
    steps = [step * numbers.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], size, steps)
    return np.array(view)
