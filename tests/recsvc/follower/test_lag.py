"""How well the store follows, by where partitions end and how far they are read."""

import pytest

from recsvc.follower.lag import FOLLOWING_MS, GAINS_WITHIN_S, SILENT_S, Lag
from recsvc.follower.topics.recent_events import RecentEvents
from recsvc.live_state.status import State

A, B = ("t", 0), ("t", 1)


class Time:
    def __init__(self) -> None:
        self.s = 1e6

    def now_ms(self) -> int:
        return round(self.s * 1000)

    def clock(self) -> float:
        return self.s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def lag(time: Time) -> Lag:
    return Lag(now_ms=time.now_ms, clock=time.clock)


def test_it_follows_when_all_is_read_that_was_there_moments_ago(time: Time, lag: Lag) -> None:
    assert lag.status({A: (5, 1)}).state is State.BLIND
    lag.learn({A: 5, B: 7}, asked_ms=time.now_ms())
    time.s += 1

    status = lag.status({A: (5, 999_000), B: (8, 998_000)})

    assert (status.state, status.known_until_ms) == (State.FOLLOWING, 1_000_000_000)
    assert (status.lags, status.last_record_ms, status.is_gaining) == ({A: 0, B: 0}, 999_000, True)
    assert status.is_well(time.now_ms())


def test_it_catches_up_while_older_records_are_read(time: Time, lag: Lag) -> None:
    begin_ms = time.now_ms() - 3_600_000
    for step in range(10):
        lag.learn({A: 100, B: 7}, asked_ms=time.now_ms())
        status = lag.status({A: (10 * step, begin_ms + step * 60_000), B: (7, None)})
        assert (status.state, status.is_gaining) == (State.CATCHING_UP, True)
        assert status.known_until_ms == begin_ms + step * 60_000
        assert status.lags == {A: 100 - 10 * step, B: 0}
        time.s += GAINS_WITHIN_S / 5
    lag.learn({A: 100, B: 7}, asked_ms=time.now_ms())
    assert lag.status({A: (100, begin_ms), B: (7, None)}).state is State.FOLLOWING


def test_a_lag_that_does_not_fall_is_not_well(time: Time, lag: Lag) -> None:
    begin_ms = time.now_ms() - 3_600_000
    for _ in range(13):
        lag.learn({A: 100}, asked_ms=time.now_ms())
        status = lag.status({A: (10, begin_ms)})
        time.s += GAINS_WITHIN_S / 10
    assert (status.state, status.is_gaining, status.is_well(time.now_ms())) == (State.CATCHING_UP, False, False)


def test_it_is_blind_when_the_brokers_are_silent(time: Time, lag: Lag) -> None:
    lag.learn({A: 5}, asked_ms=time.now_ms())
    until_ms = lag.status({A: (5, 1)}).known_until_ms
    time.s += SILENT_S + 1
    status = lag.status({A: (5, 1)})
    assert (status.state, status.known_until_ms) == (State.BLIND, until_ms)
    lag.learn({A: 5}, asked_ms=time.now_ms())
    assert lag.status({A: (5, 1)}).state is State.FOLLOWING
    assert lag.status({}).state is State.BLIND


def test_what_is_known_never_goes_back(time: Time, lag: Lag) -> None:
    lag.learn({A: 5}, asked_ms=time.now_ms())
    assert lag.status({A: (5, 1)}).known_until_ms == time.now_ms()
    until_ms = time.now_ms()
    time.s += 1
    lag.learn({A: 6}, asked_ms=time.now_ms())
    status = lag.status({A: (5, 1)})
    assert status.known_until_ms == until_ms
    assert until_ms + FOLLOWING_MS > time.now_ms()
    assert status.state is State.FOLLOWING


def test_events_are_remembered_by_user_and_in_bounded_memory() -> None:
    recent = RecentEvents(3)
    assert not recent.is_repeated(b"e", b"u")
    assert recent.is_repeated(b"e", b"u")
    assert not recent.is_repeated(b"e", b"another")
    for number in range(3):
        assert not recent.is_repeated(b"%d" % number, b"u")
    assert recent.is_repeated(b"2", b"u")
    for number in range(3, 10):
        recent.is_repeated(b"%d" % number, b"u")
    assert not recent.is_repeated(b"0", b"u"), "the oldest are forgotten"
    recent.clear()
    assert not recent.is_repeated(b"9", b"u")
