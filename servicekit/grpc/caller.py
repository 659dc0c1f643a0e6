"""Identifies callers in the log lines of calls that change something for everybody."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

import structlog

from servicekit.grpc.errors import ServiceError

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Service = TypeVar("Service")

_SUBJECT: Final = ("x509_subject", "x509_common_name")
"""Of a client certificate, the more telling one first."""
MAX_CHARACTERS: Final = 200

logger = structlog.get_logger(__name__)


def caller_of(context: Any) -> dict[str, str]:
    """Return the address of a call, and the name in its certificate, if any."""
    fields = {"peer": str(context.peer())[:MAX_CHARACTERS]}
    identity = context.auth_context()
    for name in _SUBJECT:
        if identity.get(name):
            fields["caller"] = identity[name][0].decode("utf-8", "replace")[:MAX_CHARACTERS]
            break
    return fields


def audited(
    method: Callable[[Service, Request, Any], Reply],
) -> Callable[[Service, Request, Any], Reply]:
    """Return a method whose calls each log a line that names the caller, as do all lines on the way."""

    @wraps(method)
    def call(self: Service, request: Request, context: Any) -> Reply:
        began, outcome = time.monotonic(), "INTERNAL"
        with structlog.contextvars.bound_contextvars(**caller_of(context)):
            try:
                reply = method(self, request, context)
                outcome = "OK"
            except ServiceError as error:
                outcome = error.reason
                raise
            else:
                return reply
            finally:
                took_ms = round((time.monotonic() - began) * 1000)
                logger.info("admin.called", method=method.__name__, outcome=outcome, took_ms=took_ms)

    return call
