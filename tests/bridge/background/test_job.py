"""Jobs: a step that fails keeps a pace, is told of once, and one bad row takes no other along."""

from typing import Any

import pytest
import structlog

from bridge.background.job import Job, SetAside
from bridge.postgres.pool import DatabaseUnavailableError
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer


class _Steps:
    """A step whose outcomes are told."""

    def __init__(self, *outcomes: Exception | float | None) -> None:
        self.outcomes = [*outcomes]

    async def __call__(self) -> float | None:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def _pauses(job: Job, steps: int) -> list[float]:
    return [await job.work() for _ in range(steps)]


async def test_pauses_after_failures_grow_to_the_interval() -> None:
    steps = _Steps(*[ValueError()] * 7, None, ValueError(), 5.0)
    job = Job("work", steps, interval_s=30.0)
    assert await _pauses(job, 10) == [1, 2, 4, 8, 16, 30, 30, 30, 1, 5]


async def test_without_postgres_it_is_tried_again_soon() -> None:
    """That is no failure of the job's, and leaves the pause after a failure as it was."""
    steps = _Steps(ValueError(), DatabaseUnavailableError(), DatabaseUnavailableError(), ValueError())
    assert await _pauses(Job("work", steps, interval_s=30.0, retry_s=2.0), 4) == [2, 2, 2, 4]


async def test_a_failure_is_told_of_once(dogstatsd: DogStatsdServer) -> None:
    """And again when it becomes another one; the end is told, too; each is counted."""
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    steps = _Steps(
        ValueError("a"), ValueError("b"), DatabaseUnavailableError(), KeyError("c"), KeyError("d"), None, None
    )
    job = Job("work", steps, interval_s=30.0, metrics=metrics)
    with structlog.testing.capture_logs() as logs:
        await _pauses(job, 7)
    assert [(log["event"], type(log.get("exc_info")).__name__) for log in logs] == [
        ("job.failed", "ValueError"),
        ("job.failed", "KeyError"),
        ("job.recovered", "NoneType"),
    ]
    assert logs[-1]["failures"] == 4
    metrics.close()
    await until(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.jobs.failed", "job:work")) == 4)


async def test_it_goes_on_forever() -> None:
    class Enough(BaseException):
        """Ends the test."""

    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise Enough

    job = Job("work", _Steps(None, RecursionError(), RecursionError(), None), interval_s=9.0, sleep=sleep)
    with pytest.raises(Enough):
        await job.run()
    assert pauses == [9, 1, 2, 9]


def test_bad_rows_are_named_and_the_others_used() -> None:
    """The log says when there began, and ceased, to be any: not how many each time."""
    set_aside = SetAside("work")
    bad = [*("x" * 500 + str(number) for number in range(20)), "\ud800"]

    def usable(rows: list[Any]) -> list[int]:
        return [*set_aside.usable(rows, int, lambda row: row)]

    with structlog.testing.capture_logs() as logs:
        assert usable(["1", *bad, "2", None]) == [1, 2]
        assert set_aside.report() == 22
        assert usable(["1", "x"]) == [1]
        assert set_aside.report() == 1
        assert usable(["3"]) == [3]
        assert [set_aside.report(), set_aside.report()] == [0, 0]
    assert [(log["event"], log["job"]) for log in logs] == [("rows.set_aside", "work"), ("rows.all_usable", "work")]
    assert logs[0]["count"] == 22
    assert all(len(name) <= 128 for name in logs[0]["rows"])
