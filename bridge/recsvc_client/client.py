"""Asks recsvc for a page within a deadline, and returns the page or the reason why there is none.

* An attempt is given all the time that is left, and the gRPC deadline ends it; nothing here is cancelled, for the
  asyncio stubs of gRPC keep ~1 KB of memory for each cancelled call. When the bridge's own caller goes away, the
  call runs on to its deadline and the breaker still learns how it ended.
* With one server, a hung attempt is not tried again: a second one would wait in the same queue, and the breaker stops
  calls to a hung server after five. With several, an attempt that is slower than most gets a rival at another server.
* The breaker counts calls, not attempts: a call that a retry saved is a success.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import structlog
from grpc import aio

from bridge.domain.deadline import Clock, Deadline
from bridge.domain.page import EVERYTHING, FallbackReason, Page, PageQuery, RankedVideo, ServedBy, VideoFilter
from bridge.recsvc_client.circuit_breaker import Breaker, Permit
from bridge.recsvc_client.concurrency_limit import Limiter, Slot
from bridge.recsvc_client.hedging import Hedge
from bridge.recsvc_client.load_balancer import Balancer, Replica
from bridge.recsvc_client.retry_budget import RetryBudget
from bridge.recsvc_client.status_codes import ANSWERED, DEFECT, UNTOLD, CallOutcome, CallPolicy, classify
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

T = TypeVar("T")

API_VERSION: Final = (("x-lightfm-api-version", "2025.9"),)
MAX_ATTEMPTS: Final = 3
SHORTEST_ATTEMPT_S: Final = 0.005
"""Below this no attempt is begun: it would end before LightFM could answer."""

Recommend: TypeAlias = "aio.UnaryUnaryMultiCallable[pb.RecommendRequest, pb.RecommendResponse]"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The reason why LightFM ranked no page."""

    reason: FallbackReason
    attempts: int


class RecsvcClient:
    """Asks recsvc, which may be down, slow, overloaded or broken, for pages.

    Args:
        breaker: Asked before each call and told how it ended.
        limiter: Asked before each call and told how long it took.
        budget: Pays for retries.
        channels: One for each replica; `use` changes them.
        hedge: Says when an attempt gets a rival, where there are several replicas; None for never.
        backoff: Returns the seconds to wait before the n-th retry, jittered.
        clock: Monotonic seconds; that of the deadlines.
        sleep: Waits.
    """

    def __init__(
        self,
        breaker: Breaker,
        limiter: Limiter,
        budget: RetryBudget,
        *,
        channels: Iterable[aio.Channel] = (),
        hedge: Hedge | None = None,
        backoff: Callable[[int], float],
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._breaker = breaker
        self._limiter = limiter
        self._budget = budget
        self._hedge = hedge
        self._backoff = backoff
        self._clock = clock
        self._sleep = sleep
        self._running: set[asyncio.Task[object]] = set()
        self._stubs: dict[aio.Channel, Recommend] = {}
        self._balancer: Balancer[Recommend] = Balancer((), clock)
        self.use(channels)

    @property
    def replicas(self) -> int:
        """Return the number of replicas."""
        return len(self._stubs)

    def use(self, channels: Iterable[aio.Channel]) -> None:
        """Use these channels from now on."""
        self._stubs = {
            channel: self._stubs.get(channel) or RecommendationServiceStub(channel).Recommend for channel in channels
        }
        self._balancer.replace(self._stubs.values())

    async def recommend(self, query: PageQuery, deadline: Deadline) -> Page | GaveUp:
        """Return the page, or the reason why there is none, before the deadline."""
        if deadline - self._clock() < SHORTEST_ATTEMPT_S:
            return GaveUp(FallbackReason.DEADLINE_EXCEEDED, 0)
        permit = self._breaker.acquire()
        if permit is None:
            return GaveUp(FallbackReason.CIRCUIT_OPEN, 0)
        slot = self._limiter.acquire()
        if slot is None:
            self._breaker.record(permit, CallOutcome.NEUTRAL)
            return GaveUp(FallbackReason.SHED, 0)
        return await asyncio.shield(self._start(self._run(query, deadline, permit, slot)))

    async def _run(self, query: PageQuery, deadline: Deadline, permit: Permit, slot: Slot) -> Page | GaveUp:
        policy = UNTOLD
        try:
            call = _Call(_encode(query), deadline, 1 if permit.probe else MAX_ATTEMPTS)
            self._budget.deposit()
            hedge = self._hedge if len(self._stubs) > 1 and not permit.probe else None
            outcome = await (self._one_by_one(call) if hedge is None else self._hedged(call, hedge))
            if isinstance(outcome, Page):
                policy = ANSWERED
                return outcome
            policy = outcome
            return GaveUp(policy.reason, call.made)
        finally:
            self._breaker.record(permit, policy.verdict)
            latency_s = self._clock() - slot.started if policy is ANSWERED else policy.latency_s
            self._limiter.release(slot, latency_s)

    async def _one_by_one(self, call: "_Call") -> Page | CallPolicy:
        while True:
            outcome = await self._begin(call)
            if isinstance(outcome, Page) or not await self._retry_is_due(call, outcome):
                return outcome

    async def _hedged(self, call: "_Call", hedge: Hedge) -> Page | CallPolicy:
        """Make attempts, of which two may run at once; the loser runs to its own deadline."""
        running = {self._start(self._begin(call))}
        rivals = False
        worst = UNTOLD
        while True:
            patience = None if rivals or call.made == call.most else hedge.delay_s
            done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                rivals = True
                if call.deadline - self._clock() >= SHORTEST_ATTEMPT_S and self._budget.withdraw():
                    running.add(self._start(self._begin(call)))
            for ended in done:
                outcome = ended.result()
                if isinstance(outcome, Page):
                    hedge.observe(call.took_s)
                    return outcome
                worst = outcome if worst.verdict is not CallOutcome.FAILURE else worst
            if not running:
                if not await self._retry_is_due(call, worst):
                    return worst
                running.add(self._start(self._begin(call)))

    async def _retry_is_due(self, call: "_Call", policy: CallPolicy) -> bool:
        """Wait before the next attempt, and return whether the retry is allowed."""
        if not policy.retry or call.made == call.most:
            return False
        pause = self._backoff(call.made)
        if call.deadline - self._clock() - pause < SHORTEST_ATTEMPT_S or not self._budget.withdraw():
            return False
        await self._sleep(pause)
        return True

    def _begin(self, call: "_Call") -> "Coroutine[Any, Any, Page | CallPolicy]":
        call.made += 1
        return self._attempt(call)

    async def _attempt(self, call: "_Call") -> Page | CallPolicy:
        """Make one attempt with all the time that is left; return the page, or the policy for its failure."""
        began = self._clock()
        granted = max(0.0, call.deadline - began)
        failed = False
        try:
            replica = self._balancer.begin(call.tried)
            call.tried.append(replica)
            try:
                reply = await replica.peer(call.request, timeout=granted, metadata=API_VERSION)
            except aio.AioRpcError as error:
                policy = classify(error, granted)
                failed = policy.avoid
                return policy
            finally:
                self._balancer.end(replica, failed=failed)
            page = _decode(reply, call.made)
        except Exception:
            logger.exception("lightfm.defect")
            return DEFECT
        call.took_s = self._clock() - began
        return page

    def _start(self, running: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


@dataclass(slots=True)
class _Call:
    """One call: its query, and its attempts.

    Attributes:
        request: The request that each attempt sends.
        deadline: Of all attempts.
        most: How many may be made.
        made: How many have been.
        tried: The replicas that were asked.
        took_s: How long the attempt took that was answered last.
    """

    request: pb.RecommendRequest
    deadline: Deadline
    most: int
    made: int = 0
    tried: list[Replica[Recommend]] = field(default_factory=list)
    took_s: float = 0.0


_RANKED: Final = partial(tuple.__new__, RankedVideo)
"""Makes a RankedVideo of a pair in a third of its own constructor's time."""


def _decode(reply: pb.RecommendResponse, attempts: int) -> Page:
    return Page(
        videos=[*map(_RANKED, [(video.video_id, video.score) for video in reply.videos])],
        more=bool(reply.next_page_token),
        algorithm=reply.algorithm,
        served_by=ServedBy.LIGHTFM,
        model_version=reply.model_version,
        attempts=attempts,
    )


def _encode(query: PageQuery) -> pb.RecommendRequest:
    """Return the request for a page, without a page token of recsvc: the query names the shown videos."""
    wanted = query.request
    message = pb.RecommendRequest(
        user_id=wanted.user_id,
        page_size=wanted.page_size + query.reserve,
        surface=wanted.surface,
        exclude_video_ids=wanted.served,
        diversity=query.diversity,
        request_id=wanted.request_id,
    )
    if query.seen:
        message.exclude_video_ids.extend(query.seen)
    if wanted.filter != EVERYTHING:
        message.filter.CopyFrom(_encode_filter(wanted.filter))
    if query.hidden_author_ids:
        message.filter.none_author_ids.extend(query.hidden_author_ids)
    return message


def _encode_filter(wanted: VideoFilter) -> pb.VideoFilter:
    encoded = pb.VideoFilter(
        any_tags=wanted.any_tags,
        none_tags=wanted.none_tags,
        any_author_ids=wanted.any_author_ids,
        none_author_ids=wanted.none_author_ids,
        min_duration_ms=wanted.min_duration_ms,
        max_duration_ms=wanted.max_duration_ms,
    )
    if wanted.published_after_ns is not None:
        seconds, nanos = divmod(wanted.published_after_ns, 10**9)
        encoded.published_after.seconds = seconds
        encoded.published_after.nanos = nanos
    return encoded
