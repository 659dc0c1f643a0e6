"""Clients of recsvc as tests need them."""

import time

from grpc import aio

from bridge.domain.deadline import Deadline
from bridge.domain.page import Page, PageQuery, PageRequest
from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy
from bridge.recsvc_client.client import GaveUp, RecsvcClient
from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy
from bridge.recsvc_client.hedging import Hedge
from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget


def recsvc_client(
    *channels: aio.Channel, breaker: BreakerPolicy | None = None, hedge: Hedge | None = None
) -> RecsvcClient:
    """Return a client with the policies of a bridge, but short pauses before retries."""
    return RecsvcClient(
        Breaker(breaker or BreakerPolicy(), time.monotonic, lambda _, __: None),
        Limiter(LimiterPolicy(), time.monotonic),
        RetryBudget(BudgetPolicy()),
        channels=channels,
        hedge=hedge,
        backoff=lambda retry: 0.005 * retry,
    )


async def ask(client: RecsvcClient, seconds: float, *, page_size: int = 3) -> Page | GaveUp:
    """Ask for a page that may take this long."""
    query = PageQuery(PageRequest(user_id="u1", page_size=page_size))
    return await client.recommend(query, Deadline(time.monotonic() + seconds))
