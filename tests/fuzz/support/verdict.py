"""What a server may answer to anything at all."""

import re
from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

DOCUMENTED: Final = frozenset(
    {
        "ABORTED",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "UNAVAILABLE",
        "UNIMPLEMENTED",
    }
)
DEFECTS: Final = (
    grpc.StatusCode.UNKNOWN.value[0],
    grpc.StatusCode.INTERNAL.value[0],
    grpc.StatusCode.DATA_LOSS.value[0],
)
BY_GRPC: Final = re.compile(r"metadata|message larger than max", re.IGNORECASE)
"""gRPC itself refuses what is too large, without details."""


def problem_of_error(error: Any, request: Any) -> str:
    """Return what is wrong with an error that a call ended with, empty for nothing.

    Args:
        error: What grpcio raised.
        request: Class of the method's requests.
    """
    code = error.code().name
    if code not in DOCUMENTED:
        return f"{code} is no documented status: {error.details()}"
    status = rpc_status.from_call(error)
    if status is None:
        return "" if BY_GRPC.search(error.details() or "") else f"{code} has no details: {error.details()}"
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    if not any(one.Unpack(info) for one in status.details) or not re.fullmatch(r"[A-Z0-9_]{1,63}", info.reason):
        return f"{code} has no ErrorInfo with a reason: {error.details()}"
    if code == "INVALID_ARGUMENT" and info.reason != "MALFORMED_REQUEST":
        if not any(one.Unpack(bad) for one in status.details) or not bad.field_violations:
            return f"INVALID_ARGUMENT names no field: {error.details()}"
        for violation in bad.field_violations:
            name = re.split(r"[.\[]", violation.field)[0]
            if name not in request.DESCRIPTOR.fields_by_name:
                return f"INVALID_ARGUMENT names {violation.field!r}, which is no field of {request.DESCRIPTOR.name}"
    return ""


def problem_of_reply(reply: Any) -> str:
    """Return what is wrong with a reply: an error in it that is a defect, or has no reason; empty for nothing."""
    for error in _errors(reply):
        if error.code in DEFECTS or not error.reason:
            return f"{reply.DESCRIPTOR.name} holds {error.code} {error.reason!r}: {error.message}"
    return ""


def _errors(message: Any) -> Iterator[Any]:
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and not field.is_repeated:
            if field.name == "error" and {"code", "reason"} <= set(field.message_type.fields_by_name):
                yield value
            yield from _errors(value)
