"""A thread's steps: their pace, their errors and their end. Time passes as the tests say."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from servicekit.process.periodic_thread import PeriodicThread, StopRequested
from tests.support.polling import wait_for

FOREVER_S = 600.0


class Waits:
    """Lets a number of waits pass at once and notes them; later ones are real."""

    def __init__(self, passing: int) -> None:
        self.passing = passing
        self.seconds: list[float] = []

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        self.seconds.append(seconds)
        if len(self.seconds) <= self.passing:
            return event.is_set()
        return event.wait(FOREVER_S)


@contextmanager
def running(thread: PeriodicThread) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        thread.stop()


def steps_of(outcomes: list[Exception | None]) -> tuple[list[int], Callable[[], None]]:
    """Return where steps are counted, and a step that ends like each of these in turn."""
    taken: list[int] = []

    def step() -> None:
        taken.append(len(taken))
        if error := outcomes[len(taken) - 1]:
            raise error

    return taken, step


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(("waits_first", "steps"), [(True, 3), (False, 4)])
def test_it_waits_between_steps_and_ends_when_told(waits_first: bool, steps: int) -> None:  # noqa: FBT001
    taken, step = steps_of([None] * steps)
    waits = Waits(passing=3)
    with running(PeriodicThread("counting", step, interval_s=7, waits_first=waits_first, wait=waits)):
        wait_for(lambda: len(waits.seconds) == 4, what="the fourth wait")
        assert "counting" in names()

    assert len(taken) == steps
    assert waits.seconds == [7] * 4
    assert "counting" not in names()


def test_a_failure_is_told_of_when_it_changes_and_when_it_is_over() -> None:
    broken, other = OSError("broken"), ValueError("other")
    _, step = steps_of([broken, broken, other, None, None, broken])
    waits = Waits(passing=6)
    with capture_logs() as logs, running(PeriodicThread("odd", step, interval_s=1, retry_s=9, wait=waits)):
        wait_for(lambda: len(waits.seconds) == 7, what="the last wait")

    assert [(line["event"], line["thread"]) for line in logs] == [
        ("thread.step_failed", "odd"),
        ("thread.step_failed", "odd"),
        ("thread.step_recovered", "odd"),
        ("thread.step_failed", "odd"),
    ]
    assert [line.get("exc_info") for line in logs] == [broken, other, None, broken]
    assert waits.seconds == [1, 9, 9, 9, 1, 1, 9], "it waits longer after a failure"


def test_a_failure_is_told_of_in_the_owners_words() -> None:
    told: list[Exception] = []
    broken = OSError("broken")
    _, step = steps_of([broken, broken])
    waits = Waits(passing=2)
    with running(PeriodicThread("odd", step, interval_s=1, on_failure=told.append, wait=waits)):
        wait_for(lambda: len(waits.seconds) == 3, what="the last wait")

    assert told == [broken]


def test_one_that_is_woken_takes_its_step_at_once() -> None:
    taken, step = steps_of([None])
    thread = PeriodicThread("sleeper", step, interval_s=FOREVER_S)
    with running(thread):
        thread.wake()
        wait_for(lambda: taken == [0], what="the step")


@pytest.mark.parametrize("raises", [True, False])
def test_a_long_step_learns_that_it_is_to_end(raises: bool) -> None:  # noqa: FBT001
    begun, ended = threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        try:
            if raises:
                thread.pause(FOREVER_S)
            elif thread.wait(FOREVER_S):
                assert thread.is_stopping
        finally:
            ended.set()

    thread = PeriodicThread("long", step, interval_s=1, waits_first=False, stop_within_s=FOREVER_S)
    with capture_logs() as logs, running(thread):
        assert begun.wait(60)

    assert ended.is_set()
    assert "long" not in names()
    assert logs == []


def test_a_step_that_never_ends_holds_nobody_up() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        go_on.wait(FOREVER_S)

    thread = PeriodicThread("stuck", step, interval_s=1, waits_first=False, stop_within_s=0.01)
    thread.start()
    assert begun.wait(60)
    thread.stop()
    assert "stuck" in names()
    go_on.set()
    wait_for(lambda: "stuck" not in names(), what="the thread's end")


def test_one_that_was_never_started_can_be_stopped() -> None:
    PeriodicThread("unborn", lambda: None, interval_s=1).stop()


@pytest.mark.parametrize(("ends_with_step", "steps"), [(False, 1), (True, 2)])
def test_it_may_take_a_last_step(ends_with_step: bool, steps: int) -> None:  # noqa: FBT001
    taken, step = steps_of([None] * steps)
    thread = PeriodicThread(
        "last", step, interval_s=FOREVER_S, waits_first=False, ends_with_step=ends_with_step, stop_within_s=FOREVER_S
    )
    thread.start()
    wait_for(lambda: taken, what="the first step")
    assert thread.stop()
    assert len(taken) == steps


def test_a_step_that_waits_by_itself_follows_at_once() -> None:
    taken, step = steps_of([None] * 3 + [StopRequested()])
    waits = Waits(passing=0)
    thread = PeriodicThread("eager", step, interval_s=0, waits_first=False, wait=waits)
    thread.start()
    wait_for(lambda: len(taken) == 4, what="the fourth step")
    assert thread.stop(within_s=FOREVER_S)
    assert waits.seconds == []


def test_it_says_when_it_has_not_ended() -> None:
    entered, leave = threading.Event(), threading.Event()

    def step() -> None:
        entered.set()
        leave.wait(FOREVER_S)

    thread = PeriodicThread("slow", step, interval_s=1, waits_first=False)
    thread.start()
    assert entered.wait(FOREVER_S)
    assert not thread.stop(within_s=0)
    leave.set()
    assert thread.stop(within_s=FOREVER_S)
