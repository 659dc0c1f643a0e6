"""One call to LightFM: breaker, limiter, attempts within a deadline, and a reason when there is no reply.

* An attempt is given all the time that is left, and the gRPC deadline ends it; nothing here is cancelled, for the
  asyncio stubs of gRPC keep ~1 KB of memory for each cancelled call. When the bridge's own caller goes away, the
  call runs on to its deadline and the breaker still learns how it ended.
* With one server, a hung attempt is not tried again: a second one would wait in the same queue, and the breaker stops
  calls to a hung server after five. With several, an attempt that is slower than most gets a rival at another server.
* The breaker counts calls, not attempts: a call that a retry saved is a success.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeAlias, TypeVar

import structlog
from grpc import StatusCode, aio

from bridge.domain.deadline import Deadline
from bridge.domain.page import FallbackReason
from bridge.recsvc_client.circuit_breaker import Breaker, Permit
from bridge.recsvc_client.concurrency_limit import Limiter, Slot
from bridge.recsvc_client.hedging import Hedge
from bridge.recsvc_client.retry_budget import RetryBudget
from bridge.recsvc_client.status_codes import DEFECT, RULINGS, CallOutcome, CallPolicy, classify

T = TypeVar("T")

Attempt: TypeAlias = Callable[[float], Awaitable[T]]
"""Makes one gRPC call with the given timeout in seconds."""

MAX_ATTEMPTS: Final = 3
SHORTEST_ATTEMPT_S: Final = 0.005
"""Below this no attempt is begun: it would end before LightFM could answer."""
FAIR_ATTEMPT_S: Final = 0.075
"""A shorter attempt that ends by its deadline says nothing about LightFM: the caller left too little time."""

_UNTOLD: Final = replace(DEFECT, verdict=CallOutcome.NEUTRAL)
"""The ruling on a call of which nothing is known."""

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
        hedge: Says when an attempt gets a rival; None for never.
        backoff: Returns the seconds to wait before the n-th retry, jittered.
        sleep: Waits.
    """

    def __init__(
        self,
        breaker: Breaker,
        limiter: Limiter,
        budget: RetryBudget,
        *,
        hedge: Hedge | None = None,
        backoff: Callable[[int], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._breaker = breaker
        self._limiter = limiter
        self._budget = budget
        self._hedge = hedge
        self._backoff = backoff
        self._sleep = sleep
        self._running: set[asyncio.Task[object]] = set()

    async def call(self, attempt: Attempt[T], deadline: Deadline, *, replicas: int = 1) -> Answered[T] | GaveUp:
        """Return the reply, or the reason why there is none, before the deadline.

        Args:
            attempt: Makes an attempt, each at another replica if there is one.
            deadline: Of all attempts.
            replicas: How many there are.
        """
        if deadline.remaining() < SHORTEST_ATTEMPT_S:
            return GaveUp(FallbackReason.DEADLINE_EXCEEDED, 0)
        permit = self._breaker.acquire()
        if permit is None:
            return GaveUp(FallbackReason.CIRCUIT_OPEN, 0)
        slot = self._limiter.acquire()
        if slot is None:
            self._breaker.record(permit, CallOutcome.NEUTRAL)
            return GaveUp(FallbackReason.SHED, 0)
        hedge = self._hedge if replicas > 1 and not permit.probe else None
        plan = _Plan(attempt, deadline, 1 if permit.probe else MAX_ATTEMPTS, hedge)
        task = asyncio.create_task(self._run(plan, permit, slot))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run(self, plan: "_Plan[T]", permit: Permit, slot: Slot) -> Answered[T] | GaveUp:
        ruling = _UNTOLD
        try:
            outcome, ruling = await (self._one_by_one(plan) if plan.hedge is None else self._hedged(plan, plan.hedge))
            return outcome
        finally:
            self._breaker.record(permit, ruling.verdict)
            self._limiter.release(slot, _load_latency(ruling, plan.deadline.clock() - slot.started))

    async def _one_by_one(self, plan: "_Plan[T]") -> "_Outcome[T]":
        self._budget.deposit()
        for number in range(1, plan.most + 1):
            reply, ruling = await _try(plan)
            if reply is not None:
                return Answered(reply.value, number), ruling
            if not await self._retry_is_due(plan, ruling, number):
                break
        return GaveUp(ruling.reason, number), ruling

    async def _retry_is_due(self, plan: "_Plan[T]", ruling: CallPolicy, made: int) -> bool:
        """Wait before the next attempt, and return whether it may be made."""
        if not ruling.retry or made == plan.most:
            return False
        pause = self._backoff(made)
        if plan.deadline.remaining() - pause < SHORTEST_ATTEMPT_S or not self._budget.withdraw():
            return False
        await self._sleep(pause)
        return True

    async def _hedged(self, plan: "_Plan[T]", hedge: Hedge) -> "_Outcome[T]":
        """Make attempts, of which two may run at once; the one that loses runs to its own deadline."""
        self._budget.deposit()
        running = {self._begin(plan)}
        made, rivals = 1, False
        worst = _UNTOLD
        while True:
            patience = None if rivals or made == plan.most else hedge.delay_s
            done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                rivals = True
                if plan.deadline.remaining() >= SHORTEST_ATTEMPT_S and self._budget.withdraw():
                    running.add(self._begin(plan))
                    made += 1
            for ended in done:
                reply, ruling = ended.result()
                if reply is not None:
                    hedge.observe(reply.took_s)
                    return Answered(reply.value, made), ruling
                worst = ruling if worst.verdict is not CallOutcome.FAILURE else worst
            if not running:
                if not await self._retry_is_due(plan, worst, made):
                    return GaveUp(worst.reason, made), worst
                running.add(self._begin(plan))
                made += 1

    def _begin(self, plan: "_Plan[T]") -> "asyncio.Task[tuple[_Reply[T] | None, CallPolicy]]":
        task = asyncio.create_task(_try(plan))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


@dataclass(frozen=True, slots=True)
class _Plan(Generic[T]):
    attempt: Attempt[T]
    deadline: Deadline
    most: int
    hedge: Hedge | None


@dataclass(frozen=True, slots=True)
class _Reply(Generic[T]):
    value: T
    took_s: float


_Outcome: TypeAlias = tuple[Answered[T] | GaveUp, CallPolicy]


async def _try(plan: _Plan[T]) -> tuple[_Reply[T] | None, CallPolicy]:
    """Make one attempt with all the time that is left; None is no reply."""
    granted = plan.deadline.remaining()
    try:
        value = await plan.attempt(granted)
    except aio.AioRpcError as error:
        return None, _judge(error, granted)
    except Exception:
        logger.exception("lightfm.defect")
        return None, DEFECT
    return _Reply(value, granted - plan.deadline.remaining()), RULINGS[StatusCode.OK]


def _judge(error: aio.AioRpcError, granted_s: float) -> CallPolicy:
    ruling = classify(error)
    if error.code() is StatusCode.DEADLINE_EXCEEDED and granted_s < FAIR_ATTEMPT_S:
        return replace(ruling, verdict=CallOutcome.NEUTRAL)
    return ruling


def _load_latency(ruling: CallPolicy, elapsed_s: float) -> float | None:
    """Return what a call tells the limiter: failures that come at once, or by the caller's haste, tell nothing."""
    if ruling.verdict is CallOutcome.SUCCESS:
        return elapsed_s
    is_late = ruling.reason is FallbackReason.DEADLINE_EXCEEDED and ruling.verdict is CallOutcome.FAILURE
    return math.inf if is_late or ruling.reason is FallbackReason.OVERLOADED else None
