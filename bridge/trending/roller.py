"""Lets trending counts grow as interactions are committed, once for all bridges."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog

from bridge.background.job import Job, SetAside
from bridge.domain.deadline import Clock
from bridge.postgres.pool import Connection, ConnectionBrokenError, Database
from bridge.trending.batches import Batch, Now, count_committed, count_older, database_now
from bridge.trending.counts import score_next, use_indexes
from bridge.trending.floor import begin_older, drop_below, raise_floor, sweep
from bridge.trending.formula import FORMULA
from bridge.trending.progress import Progress, adopt, load, move, restart_at, scored_below, try_lock
from servicekit.telemetry.metrics import NO_METRICS, Metric, Metrics

INTERVAL_S: Final = 2.0
BATCH: Final = 20_000
"""Rows of a step: it is a transaction of a second or two, and the relay of the outbox stays below it."""
MIN_SPAN: Final = 1
FIRST_SPAN: Final = 1024
MAX_SPAN: Final = 1 << 20
"""Transactions that a step looks at."""
HOURS_AT_A_TIME: Final = 6
"""Whose buckets are added to scores that are made anew, in one step."""
REST: Final = 1.0
"""Pause after a step that leaves more to do, as a multiple of the time that it took."""
BEHIND_S: Final = 60.0
"""Seconds behind from which on counts are late."""
REFUSALS: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""What is raised for values that Postgres cannot count."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CountingPolicy:
    """How deeds are counted.

    Attributes:
        window_h: Hours in which a user's deeds of one type count once for a video.
        half_life_s: Age at which a deed counts half.
        enough: Videos that fill pages.
    """

    window_h: int
    half_life_s: float
    enough: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a step did.

    Attributes:
        led: Whether this process did it; another one does now where not.
        rows: Interactions that it looked at.
        more: Whether there is more to do at once.
        outdated: Whether a newer program counts in place of this one.
    """

    led: bool
    rows: int = 0
    more: bool = False
    outdated: bool = False


class Roller:
    """Counts what is committed, step by step. All processes try; the lock of a step's transaction lets one.

    Each step counts and notes how far in one transaction: one that ends early has done nothing, and the next process
    goes on from there.

    Args:
        database: Where interactions and counts are.
        policy: How. The process that started last decides for all.
        interval_s: Seconds between two steps.
        batch: Rows of a step.
        metrics: Told what was counted, and how far behind that is.
        sleep: Waits.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        policy: CountingPolicy,
        *,
        interval_s: float = INTERVAL_S,
        batch: int = BATCH,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self._database = database
        self._policy = policy
        self._batch = self._most = batch
        self._metrics = metrics
        self._clock = clock
        self._set_aside = SetAside("trending-counts", metrics)
        self._job = Job("trending-counts", self._work, interval_s=interval_s, metrics=metrics, sleep=sleep)
        self._interval_s = interval_s
        self._span = FIRST_SPAN
        self._hours = HOURS_AT_A_TIME
        self._is_cancelled = False
        self._adopted = False
        self._sweeping = True
        self._floor_from = -1
        self._was_complete = True
        self._is_behind = False
        self._has_newer = False

    async def run(self) -> None:
        """Count; forever."""
        await self._database.ready.wait()
        await self._job.run()

    async def _work(self) -> float:
        began = self._clock()
        step = await self.step()
        return REST * (self._clock() - began) if step.led and step.more else self._interval_s

    async def step(self) -> Step:
        """Do the next step unless another process does one."""
        adopted = self._adopted
        try:
            async with self._database.connection() as connection:
                step = await self._locked(connection)
        except REFUSALS as error:
            self._adopted = adopted
            return await self._refused(error)
        except ConnectionBrokenError as error:
            self._adopted = adopted
            if not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise
            return self._cancelled(error.__cause__)
        except BaseException:
            self._adopted = adopted
            raise
        if step.rows:
            self._metrics.count(Metric.TRENDING_COUNTED, step.rows)
            self._most = min(2 * self._most, self._batch)
        if step.led and (step.rows or not step.more):
            self._set_aside.report()
        return step

    async def catch_up(self) -> int:
        """Do steps until nothing is left, whoever else does some; return at how many rows these looked."""
        rows = 0
        while True:
            step = await self.step()
            rows += step.rows
            if (step.led and not step.more) or step.outdated:
                return rows
            await asyncio.sleep(0 if step.led else 0.01)

    async def _locked(self, connection: Connection, *, skip: psycopg.Error | None = None) -> Step:
        if not await try_lock(connection):
            await self._tell(connection)  # whoever counts may hang
            return Step(led=False)
        now = await database_now(connection)
        await use_indexes(connection)
        progress = await self._prepared(connection, await load(connection), now)
        if progress.formula > FORMULA:
            return Step(led=False, outdated=True)
        progress, scored = await self._scored(connection, progress)
        if not scored:
            return Step(led=True, more=True)
        return await self._counted(connection, progress, now, skip)

    async def _prepared(self, connection: Connection, progress: Progress, now: Now) -> Progress:
        if newer := progress.formula > FORMULA:
            if not self._has_newer:
                logger.warning("trending.newer_formula", formula=progress.formula, own=FORMULA)
            self._has_newer = newer
            return progress
        if not self._adopted:
            policy = self._policy
            progress = await adopt(connection, progress, window_h=policy.window_h, half_life_s=policy.half_life_s)
            self._adopted = True
        if progress.transaction_id >= now.next:
            logger.warning("trending.database_restored", counted=progress.transaction_id, next=now.next)
            await restart_at(connection, now.oldest - 1)
            progress = await load(connection)
        if progress.older_at == "-infinity":
            await begin_older(connection, progress)
            progress = await load(connection)
        return progress

    async def _scored(self, connection: Connection, progress: Progress) -> tuple[Progress, bool]:
        """Make some of the scores where they are made anew; return whether all are made."""
        if progress.scores_hour is None:
            return progress, True
        behind = await score_next(connection, progress.parameters(), progress.scores_hour, self._hours)
        await scored_below(connection, behind)
        return await load(connection), behind is None

    async def _counted(self, connection: Connection, progress: Progress, now: Now, skip: psycopg.Error | None) -> Step:
        if progress.older_at is not None:
            batch = await count_older(connection, progress, self._set_aside, most=self._most, skip=skip)
        else:
            batch = await count_committed(
                connection, progress, now, self._set_aside, most=self._most, span=self._span, skip=skip
            )
            self._adapt(batch)
        complete = not batch.more
        await move(
            connection,
            batch.progress,
            counted_at=batch.counted_at,
            newest_hour=batch.newest_hour,
            complete=complete,
        )
        pending = await self._cared(connection, await load(connection))
        await self._tell(connection)
        return Step(led=True, rows=batch.rows, more=batch.more or pending)

    async def _cared(self, connection: Connection, progress: Progress) -> bool:
        """Drop some of what is old; return whether more is."""
        if progress.newest_hour != self._floor_from:
            self._floor_from = progress.newest_hour
            if await raise_floor(connection, progress, self._policy.enough) // 24 != progress.floor_hour // 24:
                self._sweeping = True
            progress = await load(connection)
        pending = await drop_below(connection, progress, self._most)
        if self._sweeping:
            self._sweeping = await sweep(connection, progress)
        return pending or self._sweeping

    def _adapt(self, batch: Batch) -> None:
        """Look at fewer transactions where a batch is full, and at more where it is half empty."""
        if batch.full:
            self._span = max(MIN_SPAN, self._span // 2)
        elif 2 * batch.rows < self._most:
            self._span = min(MAX_SPAN, 2 * self._span)

    async def _refused(self, error: psycopg.Error) -> Step:
        """Count fewer rows after one of them was refused, and set that one aside once it is alone."""
        if self._most > 1:
            self._most = max(1, self._most // 16)
            return Step(led=True, more=True)
        async with self._database.connection() as connection:
            step = await self._locked(connection, skip=error)
        self._set_aside.report()
        return step

    def _cancelled(self, error: psycopg.Error) -> Step:
        """Do less in the next step: a statement took longer than `statement_timeout` lets it."""
        smallest = (self._most, self._span, self._hours) == (1, MIN_SPAN, 1)
        self._most = max(1, self._most // 4)
        self._span = max(MIN_SPAN, self._span // 4)
        self._hours = max(1, self._hours // 2)
        if smallest:
            raise error  # the job tells of it, and tries again and again
        if not self._is_cancelled:
            logger.warning("trending.cancelled", problem=str(error).strip(), rows=self._most)
        self._is_cancelled = True
        return Step(led=True, more=True)

    async def _tell(self, connection: Connection) -> None:
        behind_s, complete = await (await connection.execute(_BEHIND)).fetchone() or (None, True)
        if complete != self._was_complete:
            self._was_complete = complete
            logger.info("trending.counted_all" if complete else "trending.counts_from_the_start")
        if behind_s is None:
            return
        self._metrics.gauge(Metric.TRENDING_LAG, behind_s)
        if (behind := complete and behind_s > BEHIND_S) != self._is_behind:
            self._is_behind = behind
            logger.log(30 if behind else 20, "trending.late" if behind else "trending.in_time", seconds=round(behind_s))


_BEHIND: Final = """
SELECT extract(epoch FROM clock_timestamp() - nullif(counted_at, '-infinity'))::float8, complete FROM trending_progress
"""
