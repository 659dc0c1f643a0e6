"""One call to LightFM: breaker, limiter, attempts within a deadline, and a reason when there is no reply.

* An attempt is given all the time that is left, and the gRPC deadline ends it; nothing here is cancelled, for the
  asyncio stubs of gRPC keep ~1 KB of memory for each cancelled call. When the bridge's own caller goes away, the
  call runs on to its deadline and the breaker still learns how it ended.
* A hung attempt is not tried again. With one server, a second attempt waits in the same queue; a limit for each
  attempt would turn slow personal pages into trending ones; and the breaker stops calls to a hung server after five.
* The breaker counts calls, not attempts: a call that a retry saved is a success.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeAlias, TypeVar

import structlog
from grpc import StatusCode, aio

from bridge.breaker import Breaker, Permit
from bridge.budget import RetryBudget
from bridge.codes import DEFECT, RULINGS, FallbackReason, Ruling, Verdict, rule
from bridge.deadline import Deadline
from bridge.limiter import Limiter, Slot

T = TypeVar("T")

Attempt: TypeAlias = Callable[[float], Awaitable[T]]
"""Makes one gRPC call with the given timeout in seconds."""

MAX_ATTEMPTS: Final = 3
SHORTEST_ATTEMPT_S: Final = 0.005
"""Below this no attempt is begun: it would end before LightFM could answer."""
FAIR_ATTEMPT_S: Final = 0.075
"""A shorter attempt that ends by its deadline says nothing about LightFM: the caller left too little time."""

_UNTOLD: Final = replace(DEFECT, verdict=Verdict.NEUTRAL)
"""The ruling on a call of which nothing is known."""

_LOADED: Final = frozenset({FallbackReason.DEADLINE_EXCEEDED, FallbackReason.OVERLOADED})

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """LightFM replied."""

    reply: T
    attempts: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """There is no reply, for a reason."""

    reason: FallbackReason
    attempts: int


class Resilience:
    """Calls a peer that may be down, slow, overloaded or broken.

    Args:
        breaker: Asked before each call and told how it ended.
        limiter: Asked before each call and told how long it took.
        budget: Pays for retries.
        backoff: Returns the seconds to wait before the n-th retry, jittered.
        sleep: Waits.
    """

    def __init__(
        self,
        breaker: Breaker,
        limiter: Limiter,
        budget: RetryBudget,
        *,
        backoff: Callable[[int], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._breaker = breaker
        self._limiter = limiter
        self._budget = budget
        self._backoff = backoff
        self._sleep = sleep
        self._running: set[asyncio.Task[object]] = set()

    async def call(self, attempt: Attempt[T], deadline: Deadline) -> Answered[T] | GaveUp:
        """Return the reply, or the reason why there is none, before the deadline."""
        if deadline.remaining() < SHORTEST_ATTEMPT_S:
            return GaveUp(FallbackReason.DEADLINE_EXCEEDED, 0)
        permit = self._breaker.acquire()
        if permit is None:
            return GaveUp(FallbackReason.CIRCUIT_OPEN, 0)
        slot = self._limiter.acquire()
        if slot is None:
            self._breaker.record(permit, Verdict.NEUTRAL)
            return GaveUp(FallbackReason.SHED, 0)
        task = asyncio.create_task(self._run(attempt, deadline, permit, slot))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run(self, attempt: Attempt[T], deadline: Deadline, permit: Permit, slot: Slot) -> Answered[T] | GaveUp:
        ruling = _UNTOLD
        try:
            outcome, ruling = await self._attempts(attempt, deadline, 1 if permit.probe else MAX_ATTEMPTS)
            return outcome
        finally:
            self._breaker.record(permit, ruling.verdict)
            self._limiter.release(slot, _load_latency(ruling, deadline.clock() - slot.started))

    async def _attempts(
        self, attempt: Attempt[T], deadline: Deadline, most: int
    ) -> tuple[Answered[T] | GaveUp, Ruling]:
        self._budget.deposit()
        for number in range(1, most + 1):
            granted = deadline.remaining()
            try:
                return Answered(await attempt(granted), number), RULINGS[StatusCode.OK]
            except aio.AioRpcError as error:
                ruling = _judge(error, granted)
            except Exception:
                logger.exception("lightfm.defect")
                ruling = DEFECT
            pause = self._backoff(number)
            if not ruling.retry or number == most or deadline.remaining() - pause < SHORTEST_ATTEMPT_S:
                break
            if not self._budget.withdraw():
                break
            await self._sleep(pause)
        return GaveUp(ruling.reason, number), ruling


def _judge(error: aio.AioRpcError, granted_s: float) -> Ruling:
    ruling = rule(error)
    if error.code() is StatusCode.DEADLINE_EXCEEDED and granted_s < FAIR_ATTEMPT_S:
        return replace(ruling, verdict=Verdict.NEUTRAL)
    return ruling


def _load_latency(ruling: Ruling, elapsed_s: float) -> float | None:
    """Return what a call tells the limiter: failures that come at once, or by the caller's haste, tell nothing."""
    if ruling.verdict is Verdict.SUCCESS:
        return elapsed_s
    return math.inf if ruling.verdict is Verdict.FAILURE and ruling.reason in _LOADED else None
