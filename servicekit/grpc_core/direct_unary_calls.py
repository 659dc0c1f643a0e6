"""Answers unary calls without gRPC's Python layer between its core and the handler.

That layer has one thread take all events of all calls, and another one wait for the request and answer: three fifths of
an empty call's processor time. Here each of some threads takes the next event, and if that is a request, answers it.
Streams, health, reflection and calls that may take long have conversations of their own, on the same port.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn, Self

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs lack it

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.errors import to_status
from servicekit.grpc.limits import SILENT
from servicekit.grpc_core.completions import PATIENCE, Completions

AHEAD: Final = 128
"""Calls of one method that are taken from gRPC's core before a thread is free: at shutdown, calls that were taken are
answered, and those that were not are cancelled."""
_NO_FLAGS: Final = 0

logger = structlog.get_logger(__name__)


class Ended(Exception):  # noqa: N818  # no error: a handler's way out
    """Leaves a handler whose context has been given the call's status."""


class UnaryContext:
    """The part of a `grpc.ServicerContext` that handlers here and ddtrace use."""

    __slots__ = ("_event", "code", "details", "trailing_metadata")

    def __init__(self, event: Any) -> None:
        self._event = event
        self.code = grpc.StatusCode.OK
        self.details = ""
        self.trailing_metadata: Sequence[tuple[str, str | bytes]] | None = None

    @property
    def _state(self) -> Self:
        """Return the object with code and details where ddtrace looks for it, as in gRPC's own contexts."""
        return self

    def time_remaining(self) -> float:
        """Return the seconds until the caller's deadline, at least 0; centuries without a deadline."""
        remaining: float = self._event.call_details.deadline - time.time()
        return max(remaining, 0.0)

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Return the caller's metadata."""
        metadata: Sequence[tuple[str, str | bytes]] = self._event.invocation_metadata
        return metadata

    def peer(self) -> str:
        """Return the address of the caller."""
        name: bytes | str = self._event.call.peer()
        return name.decode() if isinstance(name, bytes) else name

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return the properties of the connection, such as the subject of the caller's certificate."""
        found: Mapping[bytes | str, Sequence[bytes]] = cygrpc.auth_context(self._event.call)
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Set the metadata to send with the status."""
        self.trailing_metadata = metadata

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a status, and the handler with an exception."""
        self.code, self.details, self.trailing_metadata = status.code, status.details, status.trailing_metadata
        raise Ended

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Set the status."""
        self.code, self.details = code, details


grpc.ServicerContext.register(UnaryContext)  # so that ddtrace takes it for one


class UnaryCalls:
    """Answers a server's unary calls.

    Args:
        server: Not started yet.
        threads: Calls handled at once.
    """

    def __init__(self, server: grpc.Server, threads: int) -> None:
        self.completions = Completions(server, threads, "rpc")

    def add(self, method: str, handler: Handler) -> None:
        """Answer a method, named in full, by the handler of one request; register before the server starts."""
        self.completions.add(method, Method(self.completions, method, handler).arrived, ahead=AHEAD)

    def begin(self) -> None:
        """Answer calls from now on, until the server is stopped; it has just been started."""
        self.completions.begin()


class Method:
    """Answers the calls of one method."""

    def __init__(self, completions: Completions, name: str, handler: Handler) -> None:
        self.completions = completions
        self.name = name
        self.decode = handler.request_deserializer or _as_it_is
        self.encode = handler.response_serializer or _as_it_is
        self.is_stream = handler.unary_stream is not None
        self._handler = handler
        self._behaviour: Callable[[Any, Any], Any] = _behaviour(handler)

    def arrived(self, event: Any) -> None:
        """Start answering a call."""
        call = _Call(self, event)
        self.completions.expect(call)  # first: when nothing is due, the queue is closed
        if not self.completions.held(call.receive):
            call.receive()

    def behaviour(self, metadata: Any) -> Callable[[Any, Any], Any]:
        """Return the handler of a call, with the server's interceptors around it."""
        interceptors = self.completions.interceptors
        if interceptors is None:
            return self._behaviour
        return _behaviour(interceptors.execute(lambda _: self._handler, _CallDetails(self.name, metadata)))


def _as_it_is(data: bytes) -> bytes:
    return data


def _behaviour(handler: Handler) -> Callable[[Any, Any], Any]:
    found: Any = handler.unary_unary or handler.unary_stream
    return found  # type: ignore[no-any-return]


class _CallDetails(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata: Any) -> None:
        self.method = method
        self.invocation_metadata = metadata


class _Call:
    """One call, from its arrival to its end."""

    __slots__ = ("_event", "_is_given_up", "_looks", "_method", "has_request")
    _deciding: ClassVar = threading.Lock()
    """Of a call that was looked at while it waited: the answer and the end of patience may come at once."""

    def __init__(self, method: Method, event: Any) -> None:
        self._method = method
        self._event = event
        self._looks = 0
        self.has_request = self._is_given_up = False

    def receive(self) -> None:
        """Receive the request, and then answer it."""
        self._start(self._answer, lambda: (cygrpc.ReceiveMessageOperation(_NO_FLAGS),))

    def look(self) -> None:
        """End the call if its caller has kept it waiting for too long."""
        with self._deciding:
            self._looks += 1
            if self.has_request or self._is_given_up or self._looks < PATIENCE:
                return
            self._is_given_up = True
        context = UnaryContext(self._event)
        status = to_status(SILENT)
        context.code, context.details, context.trailing_metadata = status.code, status.details, status.trailing_metadata
        self._method.completions.expect(context)
        self._start(lambda _: self._method.completions.settle(context), lambda: _ending(context, None))

    def _answer(self, event: Any) -> None:
        self.has_request = True
        if self._looks:
            with self._deciding:
                if self._is_given_up:
                    self._method.completions.settle(self)
                    return
        data, context = event.batch_operations[0].message(), UnaryContext(self._event)
        if data is None:  # nothing was sent; or too much, of which gRPC's core has told; or the caller has gone
            context.fail(grpc.StatusCode.UNIMPLEMENTED, "one request message is required")
            reply = None
        else:  # what a handler leaves in context variables reaches no other call, as with gRPC's own layer
            reply = contextvars.Context().run(self._reply, data, context)
        self._start(self._ended, lambda: _ending(context, reply))

    def _reply(self, data: bytes, context: UnaryContext) -> bytes | None:
        """Return the reply's bytes; None if the call ends with the context's status."""
        method = self._method
        try:
            reply = method.behaviour(self._event.invocation_metadata)(method.decode(data), context)
            return method.encode(reply)
        except Ended:
            return None
        except BaseException:  # such as SystemExit: the thread is for all calls
            context.fail(grpc.StatusCode.INTERNAL, "internal error")
            logger.exception("rpc.defect", method=method.name)
            return None

    def _ended(self, _: Any) -> None:
        self._method.completions.settle(self)

    def _start(self, tag: Callable[[Any], None], operations: Callable[[], tuple[Any, ...]]) -> None:
        """Start operations of gRPC's core, and call a function when they are done."""
        try:
            self._event.call.start_server_batch(operations(), tag)
        except Exception:  # what a handler left cannot be sent: gRPC's core cancels the call when it is let go
            self._method.completions.settle(self)
            logger.exception("rpc.defect", method=self._method.name)


def _ending(context: UnaryContext, reply: bytes | None) -> tuple[Any, ...]:
    """Return the operations that end a call, with a reply or with a status alone."""
    code, details = context.code.value[0], context.details.encode()
    return (
        cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
        cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
        *(() if reply is None else (cygrpc.SendMessageOperation(reply, _NO_FLAGS),)),
        cygrpc.SendStatusFromServerOperation(context.trailing_metadata, code, details, _NO_FLAGS),
    )
