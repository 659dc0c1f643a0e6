"""Methods without a schema, to serve and call: requests and replies are plain bytes."""

from collections.abc import Callable
from typing import Any, Final

import grpc

SERVICE: Final = "test.Echo"


def handlers(**methods: Callable[..., Any]) -> dict[str, Any]:
    """Return handlers of these unary methods, by name."""
    return {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}


def caller(channel: grpc.Channel, method: str) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    """Return the method of the service behind a channel."""
    return channel.unary_unary(f"/{SERVICE}/{method}")


def is_refused(channel: grpc.Channel) -> bool:
    """Return whether the server turns a new call away that would wait; it is not let in either way."""
    try:
        caller(channel, "Wait")(b"late", timeout=0.2)
    except grpc.RpcError as error:
        status: Any = error
        return bool(status.code() is grpc.StatusCode.UNAVAILABLE)
    return False
