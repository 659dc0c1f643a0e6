"""Calls to a real gRPC server that fails as scripted, over a real channel."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode, aio

from bridge.domain.page import FallbackReason, Page
from bridge.recsvc_client.channel import open_channel, warm_up
from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy, BreakerState
from bridge.recsvc_client.client import GaveUp, RecsvcClient
from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy
from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget
from bridge.recsvc_client.status_codes import RULINGS
from tests.bridge.support.clock import FakeClock
from tests.bridge.support.fault_server import FaultServer, Step, running_fault_server
from tests.bridge.support.recsvc_client import ask
from tests.bridge.support.waiting import until

pytestmark = pytest.mark.peer

OK = Step()
DOWN = Step(StatusCode.UNAVAILABLE)
HUNG = Step(delay_s=30)
REFUSED = Step(StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED")
SLACK_S = 0.5
"""What a busy machine may add before a deadline is noticed."""


class Caller:
    """Calls the fault server through a breaker on a clock of its own; deadlines are real."""

    def __init__(self, faults: FaultServer, channel: aio.Channel) -> None:
        self.faults = faults
        self.channel = channel
        self.clock = FakeClock()
        self.pauses: list[int] = []
        self.reset()

    def reset(
        self,
        budget: BudgetPolicy = BudgetPolicy(),  # noqa: B008  # frozen
        *,
        breaker: BreakerPolicy = BreakerPolicy(),  # noqa: B008  # frozen
        limiter: LimiterPolicy = LimiterPolicy(least=100),  # noqa: B008  # frozen
    ) -> None:
        """Start with a closed breaker and a full budget."""
        self.breaker = Breaker(breaker, self.clock, lambda _, __: None)
        self.limiter = Limiter(limiter, time.monotonic)
        self.client = RecsvcClient(
            self.breaker, self.limiter, RetryBudget(budget), channels=[self.channel], backoff=self._backoff
        )

    def _backoff(self, retry: int) -> float:
        self.pauses.append(retry)
        return 0.005

    async def call(self, seconds: float = 0.5) -> Page | GaveUp:
        """Make one call that may take this long."""
        return await ask(self.client, seconds)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with running_fault_server() as faults, open_channel(faults.address, None) as channel:
        assert await warm_up(channel, 5)
        yield Caller(faults, channel)


async def test_reply(caller: Caller) -> None:
    """No error, no problem: one attempt, and the whole deadline for it."""
    outcome = await caller.call()
    assert isinstance(outcome, Page)
    assert outcome.attempts == 1
    assert [video.video_id for video in outcome.videos] == ["v000", "v001", "v002"]
    (granted,) = caller.faults.granted_s
    assert granted is not None
    assert 0.05 < granted <= 0.502  # gRPC rounds up to milliseconds
    assert caller.faults.metadata[0]["x-lightfm-api-version"] == "2025.9"


@pytest.mark.parametrize("failures", [1, 2])
async def test_transient_failure_is_retried(caller: Caller, failures: int) -> None:
    caller.faults.play(*[DOWN] * failures)
    outcome = await caller.call()
    assert isinstance(outcome, Page)
    assert outcome.attempts == len(caller.faults.requests) == failures + 1


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_attempts_for_each_code(caller: Caller, code: StatusCode) -> None:
    """Three attempts for what passes by itself, one for all else, and the reason of the table."""
    caller.faults.play(otherwise=Step(code))
    outcome = await caller.call(seconds=2)
    attempts = 3 if RULINGS[code].retry else 1
    assert outcome == GaveUp(RULINGS[code].reason, attempts)
    assert len(caller.faults.requests) == attempts


async def test_missing_model_is_not_retried(caller: Caller) -> None:
    caller.faults.play(otherwise=Step(StatusCode.UNAVAILABLE, reason="NO_MODEL"))
    for _ in range(7):
        assert await caller.call() == GaveUp(FallbackReason.NO_MODEL, 1)
    assert caller.breaker.state is BreakerState.CLOSED


async def test_hung_server_ends_by_the_deadline(caller: Caller) -> None:
    """One attempt takes all the time there is, and not more."""
    caller.faults.play(otherwise=HUNG)
    started = time.monotonic()
    outcome = await caller.call(0.15)
    took = time.monotonic() - started
    assert outcome == GaveUp(FallbackReason.DEADLINE_EXCEEDED, 1)
    assert 0.14 <= took <= 0.15 + SLACK_S


async def test_retry_keeps_within_the_deadline(caller: Caller) -> None:
    """After a slow failure, the next attempt gets what is left."""
    caller.faults.play(Step(StatusCode.UNAVAILABLE, delay_s=0.2), otherwise=HUNG)
    started = time.monotonic()
    outcome = await caller.call(0.4)
    assert outcome == GaveUp(FallbackReason.DEADLINE_EXCEEDED, 2)
    assert time.monotonic() - started <= 0.4 + SLACK_S
    assert caller.faults.granted_s[1] is not None
    assert caller.faults.granted_s[1] < 0.2


async def test_no_retry_without_time_for_it(caller: Caller) -> None:
    caller.faults.play(Step(StatusCode.UNAVAILABLE, delay_s=0.145))
    outcome = await caller.call(0.15)
    assert isinstance(outcome, GaveUp)
    assert outcome.attempts == len(caller.faults.requests) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.004])
async def test_no_call_without_time_for_it(caller: Caller, seconds: float) -> None:
    caller.faults.play()
    assert await caller.call(seconds) == GaveUp(FallbackReason.DEADLINE_EXCEEDED, 0)
    assert not caller.faults.requests


async def test_breaker_opens_after_five_calls_and_one_probe_closes_it(caller: Caller) -> None:
    caller.faults.play(otherwise=Step(StatusCode.INTERNAL))
    outcomes = [await caller.call() for _ in range(7)]
    failed, skipped = GaveUp(FallbackReason.ERROR, 1), GaveUp(FallbackReason.CIRCUIT_OPEN, 0)
    assert outcomes == [failed] * 5 + [skipped] * 2
    caller.clock.now += 2
    caller.faults.play(Step(delay_s=0.05))
    probe, *others = await asyncio.gather(*[caller.call() for _ in range(10)])
    assert isinstance(probe, Page)
    assert others == [skipped] * 9
    assert len(caller.faults.requests) == 1
    assert isinstance(await caller.call(), Page)


async def test_probe_is_not_retried(caller: Caller) -> None:
    caller.faults.play(otherwise=DOWN)
    for _ in range(5):
        await caller.call()
    caller.clock.now += 2
    caller.faults.play(otherwise=DOWN)
    assert await caller.call() == GaveUp(FallbackReason.UNAVAILABLE, 1)
    assert caller.breaker.state is BreakerState.OPEN


async def test_budget_bounds_retries_of_an_outage(caller: Caller) -> None:
    """A hundred failing calls with a breaker that lets them pass make few more than a hundred attempts."""
    caller.reset(BudgetPolicy(ratio=0.1, reserve=5))
    caller.faults.play(otherwise=Step(StatusCode.ABORTED))
    for _ in range(100):
        await caller.call(2)
        caller.clock.now += 2  # every call is a probe or the first after one
    assert len(caller.faults.requests) <= 100 + 5 + 10


@pytest.mark.parametrize("code", [code for code in StatusCode if RULINGS[code].retry])
async def test_full_outage_is_not_amplified(caller: Caller, code: StatusCode) -> None:
    """The server sees at most 3 attempts of a call, and of all calls fewer than there are calls."""
    caller.faults.play(otherwise=Step(code))
    seen = 0
    for _ in range(100):
        await caller.call()
        attempts, seen = len(caller.faults.requests) - seen, len(caller.faults.requests)
        assert attempts <= 3
        caller.clock.now += 0.1
    assert 5 < seen < 0.3 * 100


async def test_callers_with_little_time_do_not_open_the_breaker(caller: Caller) -> None:
    """A reply that takes 50 ms is no failure of the server when the caller waits for 20."""
    caller.faults.play(otherwise=Step(delay_s=0.05))
    for _ in range(8):
        assert await caller.call(0.02) == GaveUp(FallbackReason.DEADLINE_EXCEEDED, 1)
    assert caller.breaker.state is BreakerState.CLOSED


async def test_caller_that_goes_away_cancels_nothing(caller: Caller) -> None:
    """The call runs on to its end, and the breaker learns of it."""
    caller.faults.play(otherwise=Step(delay_s=0.05))
    task = asyncio.create_task(caller.call())
    await until(lambda: bool(caller.faults.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not caller.client._running)
    assert caller.faults.hung_up == 0


async def test_hung_calls_count_though_their_callers_left(caller: Caller) -> None:
    caller.faults.play(otherwise=HUNG)
    tasks = [asyncio.create_task(caller.call(0.15)) for _ in range(5)]
    await until(lambda: len(caller.faults.requests) == 5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: caller.breaker.state is BreakerState.OPEN)


async def test_calls_beyond_the_limit_are_shed_at_once(caller: Caller) -> None:
    """The rest is not asked for: it gets its trending page without a wait, and the breaker is none the wiser."""
    caller.reset(limiter=LimiterPolicy(least=4, initial=4, most=4))
    caller.faults.play(otherwise=Step(delay_s=0.05))
    outcomes = await asyncio.gather(*[caller.call() for _ in range(10)])
    assert outcomes[4:] == [GaveUp(FallbackReason.SHED, 0)] * 6
    assert all(isinstance(outcome, Page) for outcome in outcomes[:4])
    assert len(caller.faults.requests) == 4
    assert (caller.limiter.in_flight, caller.breaker.state) == (0, BreakerState.CLOSED)


async def test_limit_falls_while_calls_are_too_late(caller: Caller) -> None:
    caller.reset(
        breaker=BreakerPolicy(consecutive_failures=10**6, failure_ratio=1),
        limiter=LimiterPolicy(initial=64, samples=4, window_s=0),
    )
    for _ in range(5):
        await caller.call()
    limit = caller.limiter.limit
    caller.faults.play(otherwise=HUNG)
    await asyncio.gather(*[caller.call(0.08) for _ in range(16)])
    assert caller.limiter.limit < limit / 2
    assert caller.limiter.in_flight == 0


async def test_refusals_lower_the_limit_and_leave_the_breaker_closed(caller: Caller) -> None:
    """An overloaded server is asked less, not given up."""
    caller.reset(limiter=LimiterPolicy(initial=64, samples=4, window_s=0))
    for _ in range(5):
        await caller.call()
    limit = caller.limiter.limit
    caller.faults.play(otherwise=REFUSED)

    outcomes = [await caller.call() for _ in range(40)]

    assert set(outcomes) == {GaveUp(FallbackReason.OVERLOADED, 1)}
    assert caller.breaker.state is BreakerState.CLOSED
    assert caller.limiter.limit < limit / 2


async def test_refused_probes_do_not_keep_the_breaker_open(caller: Caller) -> None:
    caller.faults.play(*[HUNG] * 5, *[REFUSED] * 3)
    await asyncio.gather(*[caller.call(0.08) for _ in range(5)])
    assert await caller.call() == GaveUp(FallbackReason.CIRCUIT_OPEN, 0)
    caller.clock.now += BreakerPolicy().open_s

    outcomes = [await caller.call() for _ in range(4)]  # one after the other, without a further wait

    assert outcomes[:3] == [GaveUp(FallbackReason.OVERLOADED, 1)] * 3
    assert isinstance(outcomes[3], Page)
    assert caller.breaker.state is BreakerState.CLOSED


async def test_defect_becomes_a_fallback(caller: Caller) -> None:
    """Whatever goes wrong around the call, such as a channel that was closed before it, the user gets a page."""
    await caller.channel.close()
    assert await caller.call() == GaveUp(FallbackReason.ERROR, 1)


async def test_dead_server_is_unavailable_at_once_and_found_again() -> None:
    """A killed server fails fast; one that is back on its port is used within a few seconds."""
    async with running_fault_server() as faults, open_channel(faults.address, None) as channel:
        assert await warm_up(channel, 5)
    port = faults.port
    async with open_channel(f"127.0.0.1:{port}", None) as channel:
        caller = Caller(FaultServer(), channel)
        assert not await warm_up(channel, 0.2)
        assert await caller.call() == GaveUp(FallbackReason.UNAVAILABLE, 3)
        async with running_fault_server(port=port):
            assert await warm_up(channel, 5)
            assert isinstance(await caller.call(), Page)
