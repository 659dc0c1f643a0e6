"""Traces the way of a call through the project's own modules."""

import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("bridge", "modelstore", "recsvc", "servicekit")


@dataclass
class Walk:
    """Calls of functions, thread by thread, while it is recorded.

    Attributes:
        calls: For each thread, the module of each call, such as `bridge/feed/service`.
    """

    calls: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    is_recorded: bool = False

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """Record a call of one of the project's functions; for `sys.setprofile`."""
        if not self.is_recorded or event != "call":
            return
        module = _module(frame.f_code.co_filename)
        if module:
            self.calls[threading.get_ident()].append(module)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record calls until the block ends."""
        self.calls.clear()
        self.is_recorded = True
        try:
            yield
        finally:
            self.is_recorded = False

    def path(self, through: str) -> list[str]:
        """Return the modules in order, of the threads that pass through one; a new entry for each change of module."""
        calls = [module for thread in self.calls.values() if through in thread for module in thread]
        return [module for module, _ in groupby(calls)]


@dataclass(frozen=True, slots=True)
class Length:
    """Length of a way: the different modules on it, and the changes from one module to another."""

    modules: int
    hops: int

    @classmethod
    def of(cls, path: list[str]) -> "Length":
        """Return the length of a way."""
        return cls(len(set(path)), len(path))


@contextmanager
def traced() -> Iterator[Walk]:
    """Trace this thread, and all threads that start within the block; debug lines, which nobody reads, are off."""
    walk, logs = Walk(), structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    threading.setprofile(walk.note)
    sys.setprofile(walk.note)
    try:
        yield walk
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        structlog.configure(**logs)


def _module(file: str) -> str:
    try:
        name = Path(file).relative_to(ROOT).with_suffix("").as_posix()
    except ValueError:
        return ""
    return name if name.startswith(PACKAGES) and "/" in name else ""
