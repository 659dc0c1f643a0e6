"""Load shedding: a call that can no longer be answered in time is refused before any work is done for it.

Even calls whose callers have given up get to a handler when a thread is free. Under overload they would take the time
of those that could still be answered, and the server would do nothing but late work. What an answer takes is learnt
from the calls.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from servicekit.error_mapping import Handler
from servicekit.errors import ServiceError

RETRY_AFTER_S: Final = 0.1
_NEW: Final = 0.05
"""Share of the newest call in the expectation."""


class Expectation:
    """How long an answer takes, as a moving mean; threads may lose each other's notes, which does no harm.

    Args:
        seconds: The expectation before the first call.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def note(self, seconds: float) -> None:
        """Learn from a call."""
        self.seconds += _NEW * (seconds - self.seconds)

    def refused(self) -> None:
        """Forget a little: else one slow spell could refuse for ever, as refused calls teach nothing."""
        self.seconds *= 1 - _NEW


def with_shedding(handler: Handler, *, clock: Callable[[], float] = time.perf_counter) -> Handler:
    """Return a handler that ends calls that cannot be answered in time with RESOURCE_EXHAUSTED and RetryInfo.

    Args:
        handler: One that streams replies is returned as it is.
        clock: Seconds, ascending.
    """
    if handler.unary_unary is None:
        return handler
    codec = (handler.request_deserializer, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(shedding(handler.unary_unary, Expectation(), clock), *codec)


def shedding(
    behaviour: Callable[[Any, grpc.ServicerContext], Any], expected: Expectation, clock: Callable[[], float]
) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Return the behaviour with the look at the deadline before it."""

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        # Without a deadline, what remains is centuries.
        if context.time_remaining() < expected.seconds:
            expected.refused()
            raise ServiceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "OVERLOADED",
                "the deadline comes before an answer could",
                retry_after_s=RETRY_AFTER_S,
            )
        began = clock()
        reply = behaviour(request, context)
        expected.note(clock() - began)
        return reply

    return call
