"""Reading the tensors of a PyTorch file from before the zip format, without PyTorch and without unpickling.

Such a file is five pickles (magic number, protocol, machine, state dict, storage keys) and then the storages'
numbers. The pickles are read as a list of operations by `pickletools` and only the few that describe a state
dict are understood, on values of this module: nothing named in the file is ever imported or called.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_MARK = object()


class TorchFileError(ValueError):
    """A file that is not a legacy PyTorch state dict, or describes more than tensors."""


@dataclass(frozen=True)
class _Name:
    """A class or function that the file names; only ever compared."""

    text: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _View:
    """A tensor's place in a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """Return the state dict: name -> array of the stored dtype, C-contiguous. Strides and offsets are honoured.

    Raises TorchFileError.
    """
    if _read_pickle(file) != MAGIC:
        raise TorchFileError("not a PyTorch file from before the zip format")
    _protocol, _machine, state, keys = (_read_pickle(file) for _ in range(4))
    if not isinstance(state, dict) or not all(isinstance(v, _View) for v in state.values()):
        raise TorchFileError("the state dict holds more than tensors")
    dtypes = {view.storage.key: view.storage.dtype for view in state.values()}
    if not isinstance(keys, list) or sorted(keys) != sorted(dtypes):
        raise TorchFileError("the storages are not those that the tensors name")
    storages = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {str(name): _array(str(name), view, storages[view.storage.key]) for name, view in state.items()}


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little", signed=True)
    raw = file.read(max(count, 0) * dtype.itemsize)
    if count < 0 or len(raw) != count * dtype.itemsize:
        raise TorchFileError("the file ends within a storage")
    return np.frombuffer(raw, dtype)


def _array(name: str, view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    numbers = (view.offset, *view.shape, *view.strides)
    if len(view.shape) != len(view.strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise TorchFileError(f"{name}: shape, strides and offset must be non-negative integers")
    last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
    if math.prod(view.shape) and last >= storage.size:
        raise TorchFileError(f"{name}: reaches beyond its storage")
    if math.prod(view.shape) > storage.size:
        raise TorchFileError(f"{name}: is larger than its storage")
    steps = [step * storage.itemsize for step in view.strides]
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, steps, writeable=False).copy()


def _read_pickle(file: BinaryIO) -> Any:
    """Return the next pickle's value, built only of dict, list, tuple, str, int, bool, None and this module's own."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def popped_mark() -> list[Any]:
        place = next(k for k in range(len(stack) - 1, -1, -1) if stack[k] is _MARK)
        items = stack[place + 1 :]
        del stack[place:]
        return items

    try:
        for op, argument, _ in pickletools.genops(file):
            match op.name:
                case "PROTO":
                    pass
                case "STOP":
                    (value,) = stack
                    return value
                case "MARK":
                    stack.append(_MARK)
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[op.name])
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                    stack.append(argument)
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE":
                    stack.append(tuple(popped_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(op.name[-1])
                    stack[-count:] = [tuple(stack[-count:])]
                case "APPEND" | "APPENDS":
                    items = popped_mark() if op.name == "APPENDS" else [stack.pop()]
                    stack[-1].extend(items)
                case "SETITEM" | "SETITEMS":
                    items = popped_mark() if op.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                    stack[-1].update(zip(items[::2], items[1::2], strict=True))
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    if argument not in {_DICT, _TENSOR, *_DTYPES}:
                        raise TorchFileError(f"names {argument}, which is no part of a state dict")
                    stack.append(_Name(argument))
                case "BINPERSID":
                    stack.append(_storage(stack.pop()))
                case "REDUCE":
                    arguments = stack.pop()
                    stack.append(_made(stack.pop(), arguments))
                case "BUILD":  # a state dict carries its modules' versions as an attribute
                    stack.pop()
                case _:
                    raise TorchFileError(f"uses {op.name}, which no state dict does")
    except TorchFileError:
        raise
    except Exception as error:  # whatever a malformed list of operations leads to
        raise TorchFileError(f"malformed: {error!r}") from error
    raise TorchFileError("the file ends within a pickle")


def _storage(description: Any) -> _Storage:
    kind, name, key, _device, _size, *_ = description
    if kind != "storage" or not isinstance(name, _Name) or name.text not in _DTYPES or not isinstance(key, str):
        raise TorchFileError("names a storage in an unknown way")
    return _Storage(key, _DTYPES[name.text])


def _made(name: Any, arguments: tuple[Any, ...]) -> Any:
    if name == _Name(_DICT) and arguments == ():
        return {}
    if name == _Name(_TENSOR) and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides, *_ = arguments
        return _View(storage, offset, shape, strides)
    raise TorchFileError("calls something else than a tensor's constructor")
