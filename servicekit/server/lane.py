"""Limits calls of one kind in a server that has one pool of threads for all kinds."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
import structlog

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.errors import to_status
from servicekit.grpc.limits import crowded

logger = structlog.get_logger(__name__)


class Doors:
    """Counts calls that enter, and keeps them waiting while it is shut."""

    def __init__(self) -> None:
        self.arrivals = self._inside = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()

    def enter(self) -> None:
        """Enter; wait while the doors are shut."""
        with self._lock:
            self.arrivals += 1
        self._open.wait()
        with self._lock:
            self._inside += 1

    def leave(self) -> None:
        """Leave: the call has ended."""
        with self._lock:
            self._inside -= 1

    def running(self) -> int:
        """Return the number of calls that have entered and not ended."""
        return self._inside

    def shut(self) -> None:
        """Keep arriving calls waiting from now on."""
        self._open.clear()

    def open(self) -> None:
        """Let all waiting calls enter."""
        self._open.set()


class Lane:
    """Lets a fixed number of calls of one kind run at once.

    Args:
        name: Of the kind of call, for who is refused.
        doors: Passed by each call.
        running: Calls handled at once.
        waiting: Calls that may wait for their turn, and further ones are refused; None for as many as come.
    """

    def __init__(self, name: str, doors: Doors, *, running: int, waiting: int | None) -> None:
        self._name = name
        self._doors = doors
        self._room = None if waiting is None else threading.Semaphore(running + waiting)
        self._turns = threading.Semaphore(running)
        # Handlers of one reply have threads of their own, so that load shedding knows which call has waited for one.
        self._threads = ThreadPoolExecutor(running, thread_name_prefix=name)

    def limited(self, handler: Handler, method: str) -> Handler:
        """Return the handler of bytes that waits for its turn and answers a method, named in full."""
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler, method))
        return grpc.unary_stream_rpc_method_handler(self._stream(handler, method))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    def _unary(self, handler: Handler, method: str) -> Callable[[bytes, Any], bytes]:
        decode, encode, answer = *_codec(handler), handler.unary_unary
        assert answer is not None  # noqa: S101  # what `limited` asked

        def run(data: bytes, context: grpc.ServicerContext) -> Any:
            with _Defects(method, context):
                return encode(answer(decode(data), context))

        def call(data: bytes, context: grpc.ServicerContext) -> Any:
            self._enter(context)
            try:
                return self._threads.submit(contextvars.copy_context().run, run, data, context).result()
            finally:
                self._leave()

        return call

    def _stream(self, handler: Handler, method: str) -> Callable[[bytes, Any], Iterator[bytes]]:
        decode, encode, answer = *_codec(handler), handler.unary_stream
        assert answer is not None  # noqa: S101  # what `limited` asked

        def call(data: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
            self._enter(context)
            try:
                with self._turns, _Defects(method, context):
                    if context.is_active():  # else the caller gave up while it waited
                        yield from map(encode, answer(decode(data), context))
            finally:
                self._leave()

        return call

    def _enter(self, context: grpc.ServicerContext) -> None:
        self._doors.enter()
        if self._room and not self._room.acquire(blocking=False):
            self._doors.leave()
            context.abort_with_status(to_status(crowded(self._name)))

    def _leave(self) -> None:
        if self._room:
            self._room.release()
        self._doors.leave()


class _Defects:
    """Ends a call with INTERNAL whose handler would leave its caller waiting, such as by SystemExit.

    What error mapping lets through is a handler's way out of a call that has its status.
    """

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self._method = method
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, _Unsendable) or not isinstance(error, Exception | GeneratorExit | None):
            logger.error("rpc.defect", method=self._method, exc_info=error)
            self._context.abort(grpc.StatusCode.INTERNAL, "internal error")


class _Unsendable(Exception):  # noqa: N818  # never seen by anybody
    """The handler returned a reply that cannot be encoded."""


def _codec(handler: Handler) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    encode = handler.response_serializer or _as_it_is

    def encoded(reply: Any) -> bytes:
        try:
            return encode(reply)
        except Exception as error:
            raise _Unsendable from error

    return handler.request_deserializer or _as_it_is, encoded


def _as_it_is(data: bytes) -> bytes:
    return data
