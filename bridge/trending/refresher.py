"""Keeps the trending ranking current."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from bridge.background.job import Job, SetAside
from bridge.domain.deadline import Clock
from bridge.postgres.pool import Database
from bridge.trending.query import TrendingPolicy, compute_trending, has_counted_all
from bridge.trending.ranking import CurrentTrending, Trending
from bridge.trending.snapshot import load_snapshot, save_snapshot
from servicekit.telemetry.metrics import NO_METRICS, Metrics

RETRY_S: Final = 1.0
REST: Final = 9.0
"""How many times as long as a ranking took the next one waits at least: all of them take a tenth of a core at most."""

logger = structlog.get_logger(__name__)


class TrendingRefresher:
    """Keeps the board current.

    Args:
        board: Where the ranking is served from.
        database: Where it is computed.
        policy: How.
        path: The snapshot's file.
        interval_s: Seconds between two rankings; more where each takes long, as with many videos that trend.
        metrics: Told of rankings that failed, and of rows that could not be ranked.
        now: The time of a ranking.
        sleep: Waits.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        board: CurrentTrending,
        database: Database,
        policy: TrendingPolicy,
        *,
        path: Path,
        interval_s: float,
        metrics: Metrics = NO_METRICS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self._board = board
        self._database = database
        self._policy = policy
        self._path = path
        self._interval_s = interval_s
        self._now = now
        self._clock = clock
        self._set_aside = SetAside("trending", metrics)
        self._job = Job("trending", self._step, interval_s=interval_s, retry_s=RETRY_S, metrics=metrics, sleep=sleep)
        self._is_slow = False
        self._kept = True
        self._ranked = asyncio.Event()

    def restore(self) -> None:
        """Serve the last good ranking from disk, where there is one."""
        try:
            self._board.current = load_snapshot(self._path)
        except FileNotFoundError:
            logger.info("trending.no_snapshot", path=str(self._path))
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("trending.bad_snapshot", path=str(self._path), error=str(error))
        else:
            logger.info("trending.restored", videos=len(self._board.current.videos))

    async def refresh(self) -> None:
        """Rank once, and keep the ranking; neither an empty one nor one of half the counts replaces what is served."""
        is_whole = await has_counted_all(self._database)
        if self._board.current is not None and not is_whole:
            return
        trending = await compute_trending(self._database, self._policy, self._now(), self._set_aside)
        self._set_aside.report()
        if trending.videos or is_whole:
            self._ranked.set()
        if not trending.videos:
            return
        if self._board.current is None:
            logger.info("trending.ranked", videos=len(trending.videos))
        self._board.current = trending
        await asyncio.to_thread(self._keep, trending)

    async def warm_up(self, timeout_s: float) -> bool:
        """Wait until there is a ranking, or Postgres has none, or time is up; return whether there is one."""
        if self._board.current is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ranked.wait()
        return self._board.current is not None

    async def keep_fresh(self) -> None:
        """Rank again and again; forever."""
        await self._job.run()

    async def _step(self) -> float:
        """Rank once, and return how long the next ranking waits."""
        began = self._clock()
        await self.refresh()
        # Until there is something to serve, each interaction may be the first.
        interval_s = RETRY_S if self._board.current is None else self._interval_s
        return max(interval_s, self._rest_s(self._clock() - began))

    def _rest_s(self, took_s: float) -> float:
        """Return how long Postgres has its peace after a ranking that took so long."""
        rest_s = REST * took_s
        if (is_slow := rest_s > self._interval_s) != self._is_slow:
            self._is_slow = is_slow
            logger.info("trending.slow" if is_slow else "trending.fast", took_s=round(took_s, 2), rest_s=round(rest_s))
        return rest_s

    def _keep(self, trending: Trending) -> None:
        try:
            save_snapshot(self._path, trending)
        except OSError as error:
            if self._kept:
                logger.warning("trending.not_kept", path=str(self._path), error=str(error))
            self._kept = False
        else:
            self._kept = True
