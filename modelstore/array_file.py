"""Maps array files (`.npy` of NumPy's format 1.0) into memory after checking every number in their header.

`numpy.load` evaluates the header as Python, allocates what it says before it looks at the file, and raises whatever
comes of odd ones. Here the header must be what `numpy.save` writes for a plain array, and the file as long as it says.
"""

import math
import mmap
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_LENGTH: Final = slice(8, 10)
_START: Final = 10
_ALIGNMENT: Final = 64
MAX_HEADER_BYTES: Final = 1024
_HEADER: Final = re.compile(
    r"\{'descr': '(?P<type>[<|][fiuS]\d{1,5})', 'fortran_order': (?P<order>False|True), "
    r"'shape': \((?P<shape>(?:\d{1,15}, ?)*(?:\d{1,15})?)\), \} *\n"
)
_NUMBERS: Final = frozenset({"<f4", "<f8", "<i4", "<i8", "<u4", "|u1"})
MAX_DIMENSIONS: Final = 2


class ArrayFileError(Exception):
    """A file that may not be read as an array; the message says what is wrong, without the file's name."""


def map_file(path: Path) -> "NDArray[Any]":
    """Return an array file as a plain, read-only view of its mapping.

    Raises:
        ArrayFileError: It is no array file.
        OSError: It cannot be read.
    """
    with path.open("rb") as handle:
        head = handle.read(_START + MAX_HEADER_BYTES)
        size = handle.seek(0, 2)
        dtype, shape, order, start = _parse(head)
        count = math.prod(shape)
        if start + count * dtype.itemsize != size:
            raise ArrayFileError(f"has {size} bytes instead of the {start + count * dtype.itemsize} of its header")
        if not count:
            return np.empty(shape, dtype)  # nothing to map
        mapping = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
    # A plain view: numpy's memory-map class makes every slice slower.
    array: NDArray[Any] = np.frombuffer(mapping, dtype, count, start)
    return array.reshape(shape, order="F" if order == "True" else "C")


def _parse(head: bytes) -> "tuple[np.dtype[Any], tuple[int, ...], str, int]":
    """Return the type, shape and order of an array, and the offset of its bytes."""
    if not head.startswith(_MAGIC) or len(head) < _START:
        raise ArrayFileError("is not an array file of format 1.0")
    start = _START + int.from_bytes(head[_LENGTH], "little")
    if start > len(head) or start % _ALIGNMENT:
        raise ArrayFileError(f"has a header of {start} bytes")
    found = _HEADER.fullmatch(head[_START:start].decode("latin-1"))
    if not found:
        raise ArrayFileError("has a header that tells of no plain array")
    kind = found["type"]
    if kind not in _NUMBERS and not (kind.startswith("|S") and int(kind[2:])):
        raise ArrayFileError(f"is of type {kind}")
    shape = tuple(int(one) for one in found["shape"].split(",") if one.strip())
    if len(shape) > MAX_DIMENSIONS:
        raise ArrayFileError(f"has {len(shape)} dimensions")
    return np.dtype(kind), shape, found["order"], start
