"""Checkpoints of torch, read without torch and without running any of them.

A .pth is a pickle, which may name any function of any module. This reader
knows the few names that tensors need and refuses every other one, and it
turns what the pickle says into arrays only after the pickle has ended.
"""

import collections
import io
import math
import pathlib
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

# What begins a file of torch before 1.6, the first of five pickles.
_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': jnp.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
_REBUILD = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2')
# Where a training script keeps the model's tensors beside other things.
_NESTED = ('state_dict', 'model')


class _Storage(NamedTuple):
  kind: str
  key: str


class _Tensor(NamedTuple):
  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a checkpoint.

  Args:
    path: `.safetensors`, or what torch.save writes (`.pth`, `.pt`, `.bin`):
      a state dict, or a dict that holds one as `state_dict` or `model`.

  Returns:
    Arrays by the names they have in the file, in the file's types.

  Raises:
    ValueError: the file is neither or absent, is damaged, or its pickle asks
      for anything but tensors.
  """
  try:
    if path.suffix == '.safetensors':
      return _read_safetensors(path)
    if zipfile.is_zipfile(path):
      return _read_zip(path)
    return _read_legacy(path)
  except _RefusedError as error:
    raise ValueError(
      f'{path}: asks for {error}, expected tensors only; save its state dict '
      'alone, or as safetensors'
    ) from None
  except (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    struct.error,
    zipfile.BadZipFile,
  ) as error:
    raise ValueError(
      f'{path}: found {type(error).__name__} ({error}), expected a checkpoint '
      'of tensors'
    ) from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  # As JAX's arrays, since numpy itself has no bfloat16.
  with safetensors.safe_open(path, framework='flax') as file:
    return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads what torch has written since 1.6: a pickle and a file a storage."""
  with zipfile.ZipFile(path) as archive:
    names = {name.partition('/')[2]: name for name in archive.namelist()}

    def content(name: str) -> bytes:
      info = archive.getinfo(names[name])
      if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f'{name} is compressed, which torch never does')
      return archive.read(info)

    order = content('byteorder') if 'byteorder' in names else b'little'
    root = _Unpickler(io.BytesIO(content('data.pkl'))).load()
    return _arrays(root, lambda s: content(f'data/{s.key}'), order.decode())


def _read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads what torch wrote before 1.6: five pickles, then the storages."""
  with path.open('rb') as file:
    if _Unpickler(file).load() != _MAGIC:
      raise ValueError('no checkpoint of torch')
    _Unpickler(file).load()  # The protocol, 1001 since torch 0.1.10.
    order = 'little' if _Unpickler(file).load()['little_endian'] else 'big'
    unpickler = _Unpickler(file)
    root = unpickler.load()
    raw = {}
    for key in _Unpickler(file).load():
      (numel,) = struct.unpack('<q', file.read(8))
      storage = unpickler.storages[key]
      size = numel * np.dtype(_DTYPES[storage.kind]).itemsize
      raw[storage.key] = file.read(size)
    return _arrays(root, lambda s: raw[s.key], order)


class _RefusedError(Exception):
  """A pickle names something else than tensors."""


class _Unpickler(pickle.Unpickler):
  """Makes descriptions of tensors, and nothing else.

  What it gives a pickle to call is made anew each time, as a pickle can also
  set attributes of what it was given.
  """

  def __init__(self, file: Any):
    super().__init__(file, encoding='utf-8')
    self.storages = {}

  def find_class(self, module: str, name: str) -> Any:
    full = f'{module}.{name}'
    if full == 'collections.OrderedDict':
      return collections.OrderedDict
    if full in _REBUILD:
      return lambda storage, offset, shape, strides, *_: _Tensor(
        storage, offset, tuple(shape), tuple(strides)
      )
    if full == 'torch._utils._rebuild_parameter':
      return lambda tensor, *_: tensor
    if module in ('torch', 'torch.storage') and name in _DTYPES:
      return name
    raise _RefusedError(full)

  def persistent_load(self, pid: tuple[Any, ...]) -> _Storage:
    tag, kind, key, *_ = pid
    if tag != 'storage' or kind not in _DTYPES or pid[5:] not in ((), (None,)):
      raise ValueError(f'a storage described as {pid}')
    return self.storages.setdefault(key, _Storage(kind, str(key)))


def _tensors(root: Any) -> dict[str, _Tensor]:
  """Finds the tensors by name, in the root or one level below."""
  for key in _NESTED:
    if isinstance(root, Mapping) and isinstance(root.get(key), Mapping):
      root = root[key]
  if not isinstance(root, Mapping):
    raise ValueError(f'a {type(root).__name__} instead of a state dict')
  other = [key for key, value in root.items() if not isinstance(value, _Tensor)]
  if other:
    raise ValueError(f'{other[0]!r} is no tensor')
  return dict(root)


def _arrays(
  root: Any, raw: Callable[[_Storage], bytes], order: str
) -> dict[str, np.ndarray]:
  """Makes arrays of the tensors that a pickle describes."""
  storages = {}
  arrays = {}
  for name, tensor in _tensors(root).items():
    storage = tensor.storage
    if storage not in storages:
      flat = np.frombuffer(raw(storage), _DTYPES[storage.kind])
      storages[storage] = flat if order == sys.byteorder else flat.byteswap()
    arrays[name] = _view(name, tensor, storages[storage])
  return arrays


def _view(name: str, tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
  """Copies one tensor out of its storage, never from beyond it."""
  _, offset, shape, strides = tensor
  pairs = list(zip(shape, strides, strict=True))
  last = offset + sum((n - 1) * step for n, step in pairs)
  size = math.prod(shape)
  fits = offset >= 0 and all(n >= 0 and step >= 0 for n, step in pairs)
  # Repeated elements are refused too: a few bytes could claim any memory.
  if not fits or size > flat.size or (size and last >= flat.size):
    raise ValueError(f'{name} reaches beyond its storage')
  if not size:
    return np.zeros(shape, flat.dtype)
  steps = [step * flat.itemsize for step in strides]
  view = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps)
  return view.copy()
