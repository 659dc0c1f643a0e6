"""Defines errors with the status and details that callers see.

Domain code raises a `ServiceError`; `error_mapping` turns it into a `google.rpc.Status` with one `ErrorInfo`,
a `BadRequest` for bad input and a `RetryInfo` where trying again helps. Anything else becomes INTERNAL
without a word of what happened inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN: Final = "videowindow"
"""`ErrorInfo.domain` of every error of these services."""

MAX_TEXT_BYTES: Final = 512
"""UTF-8 bytes of a message or description; twice in the headers, once percent-encoded, once in base64."""

MAX_DETAIL_BYTES: Final = 1536
"""Bytes of bad fields after which no further one is named; peers accept 8 KiB of headers."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path from the request's root, such as `filter.any_tags[3]`, and its problem."""

    field: str
    description: str


class ServiceError(Exception):
    """An error that a caller may see.

    Attributes:
        code: The gRPC status code.
        reason: `ErrorInfo.reason`, UPPER_SNAKE_CASE of at most 63 characters.
        message: For people; never holds internals.
        violations: The bad fields, for INVALID_ARGUMENT.
        retry_after_s: Seconds to wait before trying again; None where that does not help.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


def invalid_argument(*violations: Violation) -> ServiceError:
    """Return the error for bad input; the message names every bad field."""
    text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", text, violations=violations)


def not_found(kind: str, name: str) -> ServiceError:
    """Return the error for a named thing that does not exist, such as `not_found("video", "v1")`."""
    return ServiceError(grpc.StatusCode.NOT_FOUND, f"{kind.upper()}_NOT_FOUND", f"{kind} {name!r} is not known")


def unavailable(reason: str, message: str, *, retry_after_s: float) -> ServiceError:
    """Return the error for a condition that passes by itself."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, reason, message, retry_after_s=retry_after_s)


def unimplemented(method: str) -> ServiceError:
    """Return the error for a method that this server does not offer."""
    return ServiceError(
        grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNIMPLEMENTED", f"{method} is not offered by this server"
    )


INTERNAL: Final = ServiceError(grpc.StatusCode.INTERNAL, "INTERNAL", "internal error")
"""What a caller sees of a defect."""


def to_status(error: ServiceError, metadata: Sequence[tuple[str, str]] = ()) -> grpc.Status:
    """Return the error as a status with details, for `context.abort_with_status`.

    A status travels in HTTP/2 headers, and peers refuse large ones: so a long message is cut, and of many bad fields
    only the first are named.

    Args:
        error: The error.
        metadata: Trailing metadata beside the details.
    """
    text = _cut(error.message)
    details: list[message.Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=text, details=[_pack(one) for one in details])
    told: Any = rpc_status.to_status(status)
    if metadata:
        told = told._replace(trailing_metadata=(*told.trailing_metadata, *metadata))
    plain: grpc.Status = told
    return plain


def _bad_request(violations: Sequence[Violation]) -> message.Message:
    shown: Any = error_details_pb2.BadRequest()
    for violation in violations:
        shown.field_violations.add(field=_cut(violation.field), description=_cut(violation.description))
        if shown.ByteSize() > MAX_DETAIL_BYTES:
            break
    bad: message.Message = shown
    return bad


def _cut(text: str) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_TEXT_BYTES else data[: MAX_TEXT_BYTES - 3].decode("utf-8", "ignore") + "…"


def _pack(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
