"""Compiles functions by Numba and keeps the machine code on disk, which saves 1 s a process and may be lost.

Numba's own cache has an index, and a crash can leave files cut short or out of step with it: then a process would die,
or run code of another version. Here each compiled function is a file, named by all that it depends on, with its digest.
"""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import FunctionCache

from retrain.compiled_sources import compiled_sources
from servicekit.files.replacement import PRIVATE, write_whole

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*liberties: str) -> Callable[[Function], Function]:
    """Compile a function at its first call, for this processor; the code releases the interpreter's lock.

    Args:
        liberties: Flags of LLVM that let sums of floats be rounded in other ways than written, for speed.
    """

    def decorate(function: Function) -> Function:
        found: Any = numba.njit(nogil=True, error_model="numpy", fastmath=set(liberties))(function)
        with suppress(RuntimeError):  # no folder can be written; else as its `enable_caching` does
            found._cache = FunctionCache(function)  # type: ignore[no-untyped-call]  # noqa: SLF001
            found._cache._cache_file = _Files(Path(found._cache.cache_path), function)  # noqa: SLF001
        result: Function = found
        return result

    return decorate


class _Files:
    """Stands in for `numba.core.caching.IndexDataCacheFile`.

    Args:
        folder: Where to.
        function: What is compiled.
    """

    def __init__(self, folder: Path, function: Callable[..., Any]) -> None:
        self._folder, self._name = folder, function.__qualname__
        self._function = function

    def load(self, key: object) -> Any:
        """Return the saved code, None if it cannot be read."""
        with suppress(OSError):
            digest, _, data = self._path(key).read_bytes().partition(b"\n")
            if digest == _digest(data):
                return pickle.loads(data)  # noqa: S301  # as Numba does, from a folder of its own
        return None

    def save(self, key: object, data: object) -> None:
        """Save the code if possible."""
        content = pickle.dumps(data)
        path = self._path(key)
        with suppress(OSError):
            write_whole(path, _digest(content) + b"\n" + content, mode=PRIVATE)

    def _path(self, key: object) -> Path:
        told = repr((*self._of, key)).encode()
        return self._folder / f"{self._name}-{hashlib.sha256(told).hexdigest()[:16]}.nbc"

    @cached_property
    def _of(self) -> tuple[object, ...]:
        """Return the sources of a function, at the first call: its helpers may stand below it."""
        return (numba.__version__, np.__version__, *compiled_sources(self._function))


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
