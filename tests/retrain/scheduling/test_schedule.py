"""Which days are due, in which order they run, and what becomes of a run that hangs."""

import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from retrain.errors import Reason, RunError
from retrain.run_log.row import RunRow, State
from retrain.scheduling.schedule import Schedule, due_days, seconds_to_start
from retrain.scheduling.subprocess_run import ChildRun
from tests.support.polling import wait_for

NOW = datetime(2026, 3, 9, 2, 30, tzinfo=UTC)
LIVE = datetime(2026, 3, 5, tzinfo=UTC)
"""The live model knows everything up to and with 4 March."""


def march(*days: int) -> list[date]:
    return [date(2026, 3, day) for day in days]


def ran(day: int, state: State, reason: Reason | None = None) -> RunRow:
    return RunRow(
        run_id=uuid4(),
        run_date=date(2026, 3, day),
        state=state,
        started_at=NOW,
        heartbeat_at=NOW,
        reason=str(reason) if reason else None,
    )


def due(
    *complete: int, runs: Sequence[RunRow] = (), now: datetime = NOW, live: datetime | None = LIVE, days: int = 7
) -> list[int]:
    found = due_days(march(*complete), runs, now=now, live_until=live, catch_up_days=days)
    return [day.day for day in found]


def test_missed_days_are_due_oldest_first() -> None:
    assert due(8, 6, 5, 3, 4) == [5, 6, 8]


def test_yesterday_is_due_from_two_o_clock_and_today_never() -> None:
    assert due(8, 9, now=NOW.replace(hour=1, minute=59)) == []
    assert due(8, 9, now=NOW.replace(hour=2, minute=0)) == [8]


def test_days_before_the_window_are_left_alone() -> None:
    assert due(5, 6, 7, 8, days=2) == [7, 8]


def test_without_a_live_model_only_the_newest_day_is_due() -> None:
    assert due(5, 6, 7, live=None) == [7]


def test_settled_days_are_not_due_again() -> None:
    runs = [ran(5, State.SUCCEEDED), ran(6, State.REJECTED, Reason.QUALITY), ran(7, State.FAILED, Reason.STORE)]
    assert due(5, 6, 7, 8, runs=runs) == [7, 8]


def test_a_day_that_failed_three_times_is_left_to_people() -> None:
    failed = [ran(7, State.FAILED, Reason.STORE)] * 3
    assert due(7, 8, runs=failed) == [8]
    assert due(7, 8, runs=[ran(7, State.FAILED, Reason.BUSY)] * 3) == [7, 8]


@pytest.mark.parametrize(("hour", "hours"), [(0, 2.0), (1.5, 0.5), (2, 24.0), (23, 3.0)])
def test_the_next_start_is_at_two_utc(hour: float, hours: float) -> None:
    now = datetime(2026, 3, 9, tzinfo=UTC) + timedelta(hours=hour)
    assert seconds_to_start(now) == hours * 3600


class Night:
    """A clock that waiting moves on, and runs that end as told."""

    def __init__(self, days: dict[date, list[int]], *, stop_after_s: float) -> None:
        self.days = days
        self.now = NOW
        self.ran: list[tuple[int, float]] = []
        self.stop_at = NOW + timedelta(seconds=stop_after_s)
        self.blind = False

    def schedule(self) -> Schedule:
        return Schedule(due=self.due, run=self.run, wait=self.wait, now=lambda: self.now, retry_s=900)

    def due(self) -> list[date]:
        if self.blind:
            self.blind = False
            raise OSError("no route to the store")
        return [day for day, statuses in self.days.items() if statuses]

    def run(self, day: date) -> int:
        self.ran.append((day.day, (self.now - NOW).total_seconds()))
        return self.days[day].pop(0)

    def wait(self, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        return self.now >= self.stop_at


def test_days_run_one_after_the_other_and_failures_are_tried_again_later() -> None:
    first, second = march(7, 8)
    night = Night({first: [0], second: [1, 0]}, stop_after_s=3600)
    with capture_logs():
        night.schedule().serve()
    assert night.ran == [(7, 0), (8, 0), (8, 900)]


def test_a_store_that_is_away_is_asked_again() -> None:
    (day,) = march(8)
    night = Night({day: [0]}, stop_after_s=3600)
    night.blind = True
    with capture_logs() as logs:
        night.schedule().serve()
    assert night.ran == [(8, 900)]
    assert logs[0]["problem"] == "no route to the store"


def test_once_ends_with_the_first_failure() -> None:
    first, second = march(7, 8)
    night = Night({first: [3], second: [0]}, stop_after_s=1)
    with capture_logs():
        assert night.schedule().once() == 3
        assert night.schedule().once() == 0
    assert night.ran == [(7, 0), (8, 0)]


def alive(path: Path) -> bool:
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def hanging(path: Path) -> tuple[str, ...]:
    """A program that writes its process id and then hears nothing."""
    program = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(path)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    return (sys.executable, "-c", program)


@pytest.mark.process
def test_a_run_that_hangs_is_ended_and_told_of(tmp_path: Path) -> None:
    hung: list[date] = []
    run = ChildRun(limit_s=2, stopping=threading.Event(), hung=hung.append, command=hanging(tmp_path / "pid"))
    with capture_logs():
        assert run(date(2026, 3, 8)) == 1
    assert hung == march(8)
    assert not alive(tmp_path / "pid")


@pytest.mark.process
def test_a_schedule_that_stops_ends_its_run(tmp_path: Path) -> None:
    stopping = threading.Event()
    program = (
        "import os, pathlib, time; "
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    run = ChildRun(limit_s=600, stopping=stopping, hung=lambda _: None, command=(sys.executable, "-c", program))

    def stop() -> None:
        wait_for((tmp_path / "pid").exists)
        stopping.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    begin = time.monotonic()
    assert run(date(2026, 3, 8)) == -15
    stopper.join()
    assert time.monotonic() - begin < 20
    assert not alive(tmp_path / "pid")


@pytest.mark.process
def test_an_exit_status_is_handed_on() -> None:
    command = (sys.executable, "-c", "import sys; sys.exit(3 if sys.argv[1] == '2026-03-08' else 1)")
    run = ChildRun(limit_s=60, stopping=threading.Event(), hung=lambda _: None, command=command)
    assert run(date(2026, 3, 8)) == 3


def test_a_failure_of_the_store_is_no_stack_trace() -> None:
    def due() -> list[date]:
        raise RunError(Reason.RUNS, "Postgres is away")

    schedule = Schedule(due=due, run=lambda _: 0, wait=lambda _: False, now=lambda: NOW, retry_s=1)
    with capture_logs() as logs:
        assert schedule.once() == 1
    assert logs[0]["problem"] == "Postgres is away"
