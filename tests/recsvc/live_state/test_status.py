"""The word of the follower to the workers."""

from pathlib import Path

import pytest

from recsvc.live_state.status import (
    READ_EVERY_S,
    STALE_MS,
    STATUS,
    State,
    Status,
    StatusReader,
    read_status,
    write_status,
)

GOOD = Status(
    state=State.CATCHING_UP,
    known_until_ms=5_000,
    lags={("feed.interactions.v1", 0): 3, ("feed.interactions.v1", 1): 0},
    last_record_ms=4_000,
    at_ms=6_000,
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_status(tmp_path, GOOD)
    assert read_status(tmp_path) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"state":"odd"}', b"\xff", b"[" * 100_000])
def test_an_unreadable_status_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / STATUS).write_bytes(content)
    assert read_status(tmp_path) is None


def test_a_status_is_well_while_it_is_fresh_and_the_lag_falls() -> None:
    assert GOOD.is_well(GOOD.at_ms + STALE_MS)
    assert GOOD.is_well(GOOD.at_ms - 60_000)
    assert not GOOD.is_well(GOOD.at_ms + STALE_MS + 1)
    assert not Status(state=State.BLIND, known_until_ms=1, at_ms=1).is_well(1)
    assert not Status(state=State.CATCHING_UP, is_gaining=False, known_until_ms=1, at_ms=1).is_well(1)


def test_a_reader_reads_twice_a_second_at_most(tmp_path: Path) -> None:
    now_s = 10.0
    reader = StatusReader(tmp_path, now_ms=lambda: 4_500, clock=lambda: now_s)
    assert (reader.status(), reader.known_until_ms(), reader.is_well()) == (None, None, False)
    write_status(tmp_path, GOOD)
    assert reader.status() is None
    now_s += READ_EVERY_S
    assert reader.status() == GOOD
    assert reader.known_until_ms() == 4_500, "no knowledge is of the future"
    assert reader.is_well()
