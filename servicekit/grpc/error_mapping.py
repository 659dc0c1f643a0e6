"""Maps exceptions of methods to statuses: one function for each kind of server wraps its handler, once.

An interceptor would be asked for the handler at every call. Health and reflection map their own errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from servicekit.grpc.abort import abort
from servicekit.grpc.errors import INTERNAL, ServiceError, Violation, invalid_argument, to_status
from servicekit.grpc.gate import Gate
from servicekit.grpc.malformed_text import find_bad_text
from servicekit.grpc.open_streams import OpenStream, OpenStreams

H = TypeVar("H", bound=Callable[..., Any])
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

logger = structlog.get_logger(__name__)


Metadata: TypeAlias = Sequence[tuple[str, str]]


def _visible(error: Exception, method: str, metadata: Metadata = ()) -> grpc.Status:
    """Return the error that the caller sees; a defect is logged here, once, and shown as no more than INTERNAL."""
    if isinstance(error, ServiceError):
        return to_status(error, metadata)
    logger.error("rpc.defect", method=method, exc_info=error)
    return to_status(INTERNAL, metadata)


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Placeholder for a request that cannot be decoded: gRPC itself would end the call with UNKNOWN."""

    reason: str
    field: str = ""
    """Path of the field that is to blame; empty when it is not known."""

    def error(self) -> ServiceError:
        if self.field:
            return invalid_argument(Violation(self.field, "is not valid UTF-8"))
        text = f"the request cannot be decoded: {self.reason}"
        return ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST", text)


def _forgiving(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return a decoder that does not raise."""
    if decode is None:
        return None

    def attempt(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            message: Any = getattr(decode, "__self__", None)
            field = find_bad_text(message.DESCRIPTOR, data) if hasattr(message, "DESCRIPTOR") else ""
            return _Undecodable(str(error).rpartition(": ")[2], field)

    return attempt


def _encoder(encode: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Return an encoder that passes replies through that are bytes already."""
    if encode is None:
        return None

    def encoded(reply: Any) -> bytes:
        return reply if type(reply) is bytes else encode(reply)

    return encoded


def _checked(request: Any) -> Any:
    """Return the request; ServiceError if it could not be decoded."""
    if type(request) is _Undecodable:
        raise request.error()
    return request


async def _each_checked(requests: AsyncIterator[Any], *, told: bool) -> AsyncIterator[Any]:
    async for request in requests:
        yield request.error() if told and type(request) is _Undecodable else _checked(request)


def told_of_malformed(handler: H) -> H:
    """Replace an undecodable request of a stream by a ServiceError for its handler; the call goes on."""
    handler.told_of_malformed = True  # type: ignore[attr-defined]  # a mark
    return handler


class _Mapping:
    """Ends the call with a status when the block raises."""

    __slots__ = ("_context", "_metadata", "_method")

    def __init__(self, context: grpc.ServicerContext, method: str, metadata: Metadata) -> None:
        self._context = context
        self._method = method
        self._metadata = metadata

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, grpc.RpcError):
            self._context.abort_with_status(_visible(error, self._method, self._metadata))


def mapped(handler: Handler, method: str, metadata: Metadata = ()) -> Handler:
    """Return a thread server's handler with error mapping around it; it may return a reply as its bytes.

    Args:
        handler: Of a request that is no stream.
        method: Full name of the method, for logs.
        metadata: Trailing metadata of every error.
    """
    unary, stream = handler.unary_unary, handler.unary_stream
    codec = (_forgiving(handler.request_deserializer), _encoder(handler.response_serializer))
    if unary is not None:

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return unary(_checked(request), context)
            except Exception as error:  # noqa: BLE001  # of whatever kind, it is mapped
                status = _visible(error, method, metadata)
            return context.abort_with_status(status)

        return grpc.unary_unary_rpc_method_handler(call, *codec)
    if stream is not None:

        def replies(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with _Mapping(context, method, metadata):
                yield from stream(_checked(request), context)

        return grpc.unary_stream_rpc_method_handler(replies, *codec)
    raise TypeError(f"{method} takes a stream of requests")


class _AioMapping:
    """Ends the call with a status when the block raises."""

    __slots__ = ("_context", "_method")

    def __init__(self, context: aio.ServicerContext[Any, Any], method: str) -> None:
        self._context = context
        self._method = method

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, aio.AbortError):
            await abort(self._context, _visible(error, self._method))


def mapped_aio(handler: Handler, method: str, gate: Gate, streams: OpenStreams) -> Handler:
    """Return an asyncio server's handler with error mapping around it.

    Args:
        handler: Of one request with one reply or with news, of a stream with one reply, or of a stream of both.
        method: Full name of the method, for logs.
        gate: Passed by each call.
        streams: All open ones of the server, and its unary calls that wait for their messages.
    """
    codec = (_forgiving(handler.request_deserializer), handler.response_serializer)
    unary: Any = handler.unary_unary
    if unary is not None:
        messages = streams.messages

        async def call(_: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            gate.arrivals += 1
            try:
                request = await messages.receive(context)
                if gate.is_watched:
                    await gate.passage(context.peer())
                return await unary(_checked(request), context)
            except aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # of whatever kind, it is mapped
                status = _visible(error, method)
            finally:
                gate.ends += 1
            return await abort(context, status)

        return grpc.stream_unary_rpc_method_handler(call, *codec)  # gRPC takes both
    return _mapped_stream(handler, method, gate, streams)


def _mapped_stream(handler: Handler, method: str, gate: Gate, streams: OpenStreams) -> Handler:
    codec = (_forgiving(handler.request_deserializer), handler.response_serializer)
    both: Any = handler.stream_stream
    news: Any = handler.unary_stream
    many: Any = handler.stream_unary

    @asynccontextmanager
    async def passed(context: aio.ServicerContext[Any, Any]) -> AsyncIterator[OpenStream]:
        gate.arrivals += 1
        try:
            async with _AioMapping(context, method):
                with streams.opened(method) as stream:
                    if gate.is_watched:
                        await gate.passage(context.peer())
                    gate.streams += 1
                    try:
                        yield stream
                    finally:
                        gate.streams -= 1
                    stream.check()
        finally:
            gate.ends += 1

    async def replies(requests: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async with passed(context) as stream:
            told = getattr(both, "told_of_malformed", False)
            async for reply in both(_each_checked(stream.each(requests), told=told), context):
                yield reply

    async def sum_up(requests: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        async with passed(context) as stream:
            return await many(_each_checked(stream.each(requests), told=False), context)

    async def tell(requests: Any, context: aio.ServicerContext[Any, Any]) -> None:
        async with passed(context) as stream:
            request = _checked(await stream.first(requests))
            await stream.until_ended(news(request, context))

    if both is not None:
        return grpc.stream_stream_rpc_method_handler(replies, *codec)
    if many is not None:
        return grpc.stream_unary_rpc_method_handler(sum_up, *codec)
    if iscoroutinefunction(news):  # it writes what it has to tell, as long as its caller listens
        return grpc.stream_stream_rpc_method_handler(tell, *codec)
    raise TypeError(f"{method} streams one way only")
