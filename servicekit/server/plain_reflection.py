"""Serves reflection in a plain server: a stream holds a thread, so their number is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection

from servicekit.grpc.errors import to_status
from servicekit.grpc.limits import crowded

OPEN: Final = 100
"""Streams that may be open."""


class PlainReflection:
    """Describes services and their messages.

    Args:
        services: Their full names.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer: Any = reflection.ReflectionServicer(services)
        self._lock = threading.Lock()
        self._open: set[grpc.ServicerContext] = set()

    def ServerReflectionInfo(self, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        """Answer one question after the other."""
        with self._lock:
            is_taken = len(self._open) < OPEN
            if is_taken:
                self._open.add(context)
        if not is_taken:
            context.abort_with_status(to_status(crowded("reflection")))
        try:
            yield from self._servicer.ServerReflectionInfo(requests, context)
        finally:
            with self._lock:
                self._open.discard(context)

    def dismiss(self) -> None:
        """Cancel all streams, which wait for further questions."""
        with self._lock:
            for context in self._open:
                context.cancel()
