"""One call to LightFM: breaker, attempts within a deadline, and a reason when there is no reply.

* An attempt is given all the time that is left, and the gRPC deadline ends it; nothing here is cancelled, for the
  asyncio stubs of gRPC keep ~1 KB of memory for each cancelled call. When the bridge's own caller goes away, the
  call runs on to its deadline and the breaker still learns how it ended.
* A hung attempt is not tried again. With one server, a second attempt waits in the same queue; a limit for each
  attempt would turn slow personal pages into trending ones; and the breaker stops calls to a hung server after five.
* The breaker counts calls, not attempts: a call that a retry saved is a success.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeAlias, TypeVar

import structlog
from grpc import StatusCode, aio

from bridge.breaker import Breaker
from bridge.budget import RetryBudget
from bridge.codes import DEFECT, FallbackReason, Ruling, Verdict, rule
from bridge.deadline import Deadline

T = TypeVar("T")

Attempt: TypeAlias = Callable[[float], Awaitable[T]]
"""Makes one gRPC call with the given timeout in seconds."""

MAX_ATTEMPTS: Final = 3
SHORTEST_ATTEMPT_S: Final = 0.005
"""Below this no attempt is begun: it would end before LightFM could answer."""
FAIR_ATTEMPT_S: Final = 0.075
"""A shorter attempt that ends by its deadline says nothing about LightFM: the caller left too little time."""

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
        budget: Pays for retries.
        backoff: Returns the seconds to wait before the n-th retry, jittered.
        sleep: Waits.
    """

    def __init__(
        self,
        breaker: Breaker,
        budget: RetryBudget,
        *,
        backoff: Callable[[int], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._breaker = breaker
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
        most = 1 if permit.probe else MAX_ATTEMPTS

        async def run() -> Answered[T] | GaveUp:
            verdict = Verdict.NEUTRAL
            try:
                outcome, verdict = await self._attempts(attempt, deadline, most)
                return outcome
            finally:
                self._breaker.record(permit, verdict)

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _attempts(
        self, attempt: Attempt[T], deadline: Deadline, most: int
    ) -> tuple[Answered[T] | GaveUp, Verdict]:
        self._budget.deposit()
        for number in range(1, most + 1):
            granted = deadline.remaining()
            try:
                return Answered(await attempt(granted), number), Verdict.SUCCESS
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
        return GaveUp(ruling.reason, number), ruling.verdict


def _judge(error: aio.AioRpcError, granted_s: float) -> Ruling:
    ruling = rule(error)
    if error.code() is StatusCode.DEADLINE_EXCEEDED and granted_s < FAIR_ATTEMPT_S:
        return replace(ruling, verdict=Verdict.NEUTRAL)
    return ruling
