"""The calls of one request and one reply, answered without gRPC's Python layer between its core and the handler.

That layer has one thread take all events of all calls, and another one wait for the request and answer: three fifths of
an empty call's processor time. Here each of some threads takes the next event, and if that is a request, answers it.
Streams, health and reflection stay with gRPC's own layer, on the same port.

It speaks to gRPC's core by `grpc._cython.cygrpc`, as that layer does. That module is private to gRPC and may change
with any release, so `grpcio` is pinned, and `tests/servicekit/test_unary_calls.py` tells what is relied on.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs lack it

from servicekit.error_mapping import Handler

logger = structlog.get_logger(__name__)

_OK: Final = grpc.StatusCode.OK.value[0]
_NO_FLAGS: Final = 0


class _Ended(Exception):  # noqa: N818  # no error: a handler's way out
    """Leaves a handler whose call ends with the status that its context was told."""


class UnaryContext:
    """As much of a `grpc.ServicerContext` as a handler of one request can use before it replies."""

    __slots__ = ("_event", "code", "details", "trailing_metadata")

    def __init__(self, event: Any) -> None:
        self._event = event
        self.code: int = _OK
        self.details = ""
        self.trailing_metadata: Sequence[tuple[str, str | bytes]] | None = None

    def time_remaining(self) -> float:
        """Return the seconds until the caller's deadline, at least 0; infinitely many where there is none."""
        remaining: float = self._event.call_details.deadline - time.time()
        return max(remaining, 0.0)

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Return what the caller sent along."""
        metadata: Sequence[tuple[str, str | bytes]] = self._event.invocation_metadata
        return metadata

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Set what is sent along with the status."""
        self.trailing_metadata = metadata

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a status, and the handler with an exception."""
        self.code, self.details = status.code.value[0], status.details
        self.trailing_metadata = status.trailing_metadata
        raise _Ended


grpc.ServicerContext.register(UnaryContext)  # so that instrumentation takes it for one


class UnaryCalls:
    """Answers a server's unary calls.

    Args:
        server: Not started yet.
        threads: Calls handled at once; further ones wait in gRPC's core.
    """

    def __init__(self, server: grpc.Server, threads: int) -> None:
        state: Any = server._state  # type: ignore[attr-defined]  # noqa: SLF001  # its core, and its interceptors
        self.core = state.server
        self.interceptors = state.interceptor_pipeline
        self.queue = cygrpc.CompletionQueue()
        self.core.register_completion_queue(self.queue)
        self._methods: list[_Method] = []
        self._due: set[object] = set()
        """Methods that wait for their next call, and calls that wait for their next event."""
        self._threads = [threading.Thread(target=self._serve, name=f"rpc-{n}", daemon=True) for n in range(threads)]

    def add(self, method: str, handler: Handler) -> None:
        """Answer a method, named in full, by the handler of one request."""
        self.core.register_method(method)
        self._methods.append(_Method(self, method, handler))

    def begin(self) -> None:
        """Answer calls from now on, until the server is stopped; it has just been started."""
        if self._methods:
            self._due.update(self._methods)
            for method in self._methods:
                method.ask()
            for thread in self._threads:
                thread.start()

    def expect(self, one: object) -> None:
        """Note that an event is due."""
        self._due.add(one)

    def settle(self, one: object) -> None:
        """Note that no further event is due; after the last one, the threads end."""
        self._due.discard(one)
        if not self._due:
            self.queue.shutdown()

    def _serve(self) -> None:
        while (event := self.queue.poll()).completion_type != cygrpc.CompletionType.queue_shutdown:
            event.tag(event)
            del event  # else an idle thread would keep its last call in memory


class _Method:
    """One method: the tag of the event that a call of it has come."""

    def __init__(self, calls: UnaryCalls, name: str, handler: Handler) -> None:
        self.calls = calls
        self.name = name
        self._handler = handler
        self._behaviour: Callable[[Any, Any], Any] = handler.unary_unary  # type: ignore[assignment]  # it has one
        self.decode = handler.request_deserializer or bytes
        self.encode = handler.response_serializer or bytes

    def ask(self) -> None:
        """Ask for the next call, unless the server is about to end."""
        try:
            self.calls.core.request_registered_call(self.calls.queue, self.calls.queue, self.name, self)
        except ValueError:
            self.calls.settle(self)

    def __call__(self, event: Any) -> None:
        if event.success:
            self.ask()
            _Call(self, event).begin()
        else:  # the server is about to end
            self.calls.settle(self)

    def behaviour(self, metadata: Any) -> Callable[[Any, Any], Any]:
        """Return what handles a call: the handler, with the server's interceptors around it."""
        interceptors = self.calls.interceptors
        if interceptors is None:
            return self._behaviour
        handler = interceptors.execute(lambda _: self._handler, _CallDetails(self.name, metadata))
        intercepted: Callable[[Any, Any], Any] = handler.unary_unary
        return intercepted


class _CallDetails(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata: Any) -> None:
        self.method = method
        self.invocation_metadata = metadata


class _Call:
    """One call, from its arrival to its end."""

    __slots__ = ("_event", "_method")

    def __init__(self, method: _Method, event: Any) -> None:
        self._method = method
        self._event = event

    def begin(self) -> None:
        """Wait for the request."""
        self._method.calls.expect(self)
        self._start(self._answer, cygrpc.ReceiveMessageOperation(_NO_FLAGS))

    def _answer(self, event: Any) -> None:
        data, context = event.batch_operations[0].message(), UnaryContext(self._event)
        if data is None:  # nothing was sent; or too much, of which gRPC's core has told; or the caller has gone
            context.code, context.details = grpc.StatusCode.UNIMPLEMENTED.value[0], "one request message is required"
            self._end(context, None)
            return
        # As with gRPC's own layer, what a handler leaves in context variables reaches no other call.
        self._end(context, contextvars.Context().run(self._reply, data, context))

    def _reply(self, data: bytes, context: UnaryContext) -> bytes | None:
        """Return the reply's bytes; None where the call ends with the context's status."""
        method = self._method
        try:
            reply = method.behaviour(self._event.invocation_metadata)(method.decode(data), context)
            return method.encode(reply)
        except _Ended:
            return None
        except Exception:
            logger.exception("rpc.defect", method=method.name)
            context.code, context.details = grpc.StatusCode.INTERNAL.value[0], "internal error"
            return None

    def _end(self, context: UnaryContext, reply: bytes | None) -> None:
        status = cygrpc.SendStatusFromServerOperation(
            context.trailing_metadata, context.code, context.details.encode(), _NO_FLAGS
        )
        message = () if reply is None else (cygrpc.SendMessageOperation(reply, _NO_FLAGS),)
        closed, head = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS), cygrpc.SendInitialMetadataOperation(None, 0)
        self._start(self._ended, closed, head, *message, status)

    def _ended(self, _: Any) -> None:
        self._method.calls.settle(self)

    def _start(self, tag: Callable[[Any], None], *operations: Any) -> None:
        """Have gRPC's core do something, and tell when it is done."""
        try:
            self._event.call.start_server_batch(operations, tag)
        except Exception:  # metadata that cannot be sent: the core ends the call
            logger.exception("rpc.defect", method=self._method.name)
            self._method.calls.settle(self)
