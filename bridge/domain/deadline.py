"""Instants on a monotonic clock."""

from collections.abc import Callable
from typing import NewType, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds."""

Deadline = NewType("Deadline", float)
"""The instant, in monotonic seconds, by which something must have ended."""
