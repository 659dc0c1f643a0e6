"""Checks the release of the API that caller and server must agree on, carried in metadata.

Replies and errors name it in their trailing metadata. Initial metadata would be a step of its own for gRPC, and
a call that has sent it is no longer retried by the caller's channel.
"""

from collections.abc import Callable
from typing import Any, Final

import grpc

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.errors import ServiceError

API_VERSION: Final = "2025.9"
KEY: Final = "x-lightfm-api-version"
RELEASE: Final = ((KEY, API_VERSION),)
"""Metadata that names the release."""


def with_api_version(handler: Handler) -> Handler:
    """Return a handler that refuses calls that name another release, and names this one in its replies."""
    codec = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_checked(handler.unary_unary), *codec)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(_checked(handler.unary_stream), *codec)
    return handler  # of a stream of requests, which the server refuses


def _checked(behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        _check(context)
        context.set_trailing_metadata(RELEASE)
        return behaviour(request, context)

    return call


def _check(context: grpc.ServicerContext) -> None:
    for key, value in context.invocation_metadata():
        if key == KEY and value != API_VERSION:
            raise ServiceError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "API_VERSION_MISMATCH",
                f"{KEY} names release {value!r}, this server is release {API_VERSION!r}",
            )
