"""Refuses calls that can no longer be answered in time, before any work is done for them.

Even calls whose callers have given up get to a handler when a thread is free. Under overload they would take the time
of those that could still be answered, and the server would do nothing but late work. What an answer takes is learnt
from the calls.

Refusals must not outlive the overload. So nothing is refused where no call can have waited: a late call says that its
caller was in haste, not that the server is overloaded. No call teaches more than its own deadline, and what was learnt
fades with time, not with refusals: one stall must not be believed for as long as callers hold back because of it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.errors import ServiceError

RETRY_AFTER_S: Final = 0.1
_NEW: Final = 0.05
"""Share of the newest call in the expectation."""
SILENCE_S: Final = 0.5
"""Seconds without an answer after which the expectation begins to fade."""
HALF_LIFE_S: Final = 0.5
"""Seconds in which it halves from then on."""
STRAIGHT_S: Final = 0.002
"""A thread that takes a call this soon after another one may have found it waiting."""

Clock = Callable[[], float]


class ServiceTimeEstimate:
    """Estimates how long an answer takes, by a moving mean; an update lost between threads does no harm.

    Args:
        seconds: The expectation before the first call.
        now: The time of the first call, on the clock of the others.
    """

    def __init__(self, seconds: float = 0.0, now: float = 0.0) -> None:
        self._seconds = seconds
        self._noted_at = now

    def note(self, seconds: float, now: float, *, most: float) -> None:
        """Learn from the duration of a call.

        Args:
            seconds: How long it took.
            now: When it ended.
            most: More than it can teach: the time that its caller had left when it began.
        """
        before, taught = self.at(now), min(seconds, most)
        self._seconds = before + _NEW * (taught - before)
        self._noted_at = now + taught  # as soon as that, the next one may end

    def at(self, now: float) -> float:
        """Return the expected duration of an answer at an instant, seconds."""
        silent_s = now - self._noted_at - SILENCE_S
        if silent_s <= 0:
            return self._seconds
        left: float = self._seconds * 0.5 ** (silent_s / HALF_LIFE_S)
        return left


class Occupation:
    """Tracks whether a call may have waited for a thread, for all methods of a process."""

    def __init__(self) -> None:
        self._busy: set[int] = set()  # adding and removing are atomic: no count could be lost
        self._thread = threading.local()

    def may_have_waited(self, now: float) -> bool:
        """Return False only if the thread was idle before, and no other thread is at work."""
        return bool(self._busy) or now - getattr(self._thread, "ended_at", -STRAIGHT_S) < STRAIGHT_S

    def begin(self) -> None:
        """Record that this thread is at work."""
        self._busy.add(threading.get_ident())

    def end(self, now: float) -> None:
        """Record that this thread is idle."""
        self._busy.discard(threading.get_ident())
        self._thread.ended_at = now


_PROCESS: Final = Occupation()


def with_shedding(handler: Handler, *, clock: Clock = time.perf_counter) -> Handler:
    """Return a handler that refuses calls too late to answer with RESOURCE_EXHAUSTED and RetryInfo.

    Args:
        handler: One that streams replies is returned as it is.
        clock: Seconds, ascending.
    """
    if handler.unary_unary is None:
        return handler
    codec = (handler.request_deserializer, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(
        shedding(handler.unary_unary, ServiceTimeEstimate(), clock, _PROCESS), *codec
    )


def shedding(
    behaviour: Callable[[Any, grpc.ServicerContext], Any],
    expected: ServiceTimeEstimate,
    clock: Clock,
    occupation: Occupation,
) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Return the behaviour, preceded by a check of the deadline."""

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        began = clock()
        # Without a deadline, what remains is centuries.
        remaining = context.time_remaining()
        if occupation.may_have_waited(began) and remaining < expected.at(began):
            occupation.end(began)  # the next one may have waited as well
            raise ServiceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "OVERLOADED",
                "the deadline comes before an answer could",
                retry_after_s=RETRY_AFTER_S,
            )
        occupation.begin()
        try:
            reply = behaviour(request, context)
        finally:
            ended = clock()
            occupation.end(ended)
        expected.note(ended - began, ended, most=remaining)
        return reply

    return call
