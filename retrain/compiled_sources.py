"""Finds all that Numba compiles into a function: helpers of other modules too, and the constants that it freezes."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

LIBRARIES: Final = frozenset({"numba", "numpy"})
"""What of them is compiled in, their versions tell."""
CONSTANTS: Final = (bool, int, float, complex, str, bytes, tuple, np.generic)


def compiled_sources(function: Callable[..., Any]) -> list[str]:
    """Return the digest of each file that a function is compiled from, and each constant that it freezes."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting:
        one = waiting.pop()
        plain = getattr(one, "py_func", one)  # of what is compiled itself
        if not isinstance(plain, FunctionType) or id(plain) in seen or _is_of_a_library(plain):
            continue
        seen.add(id(plain))
        found[_digest(Path(plain.__code__.co_filename))] = None
        for name, value in _globals(plain):
            waiting.append(value)
            if isinstance(value, np.ndarray):
                found[f"{name} = {value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"] = None
            elif isinstance(value, CONSTANTS):
                found[f"{name} = {value!r}"] = None
    return sorted(found)


def _globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the globals that a function reads, including attributes of modules."""
    names = {*_names(function.__code__)}
    outside = {name: function.__globals__[name] for name in names if name in function.__globals__}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    outside |= {name: cell.cell_contents for name, cell in cells}
    for name, value in outside.items():
        yield name, value
        if isinstance(value, ModuleType) and not _is_of_a_library(value):
            yield from ((f"{name}.{one}", getattr(value, one)) for one in names if hasattr(value, one))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _names(one)


def _is_of_a_library(one: FunctionType | ModuleType) -> bool:
    module = one.__name__ if isinstance(one, ModuleType) else str(one.__module__)
    return module.partition(".")[0] in LIBRARIES


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
