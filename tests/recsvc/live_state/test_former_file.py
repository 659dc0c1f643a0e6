"""The file in which a former release kept what callers told of users: its lines are those that release wrote."""

import json
from pathlib import Path

import pytest

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.live_state import former_file
from recsvc.live_state.former_file import take_in
from recsvc.live_state.store import LiveStore, StoreError
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.stores import prepared

HEADER = b'{"compaction":"000000000002","base":"000000000000123","late":"0"}\n'
RATED = b'{"user":"rater","told":9,"did":[["v2","rating",5,0,4.5],["v1","watch",3,1200,null]]}\n'


def update(user_id: str, *times: int, told: int = 100) -> bytes:
    rows = [[f"v{at_ms}", "like", at_ms, 0, None] for at_ms in times]
    return json.dumps({"user": user_id, "told": told, "did": rows}, separators=(",", ":")).encode() + b"\n"


def erasure(user_id: str, at_ms: int) -> bytes:
    return json.dumps({"forget": user_fingerprint(user_id).hex(), "at": at_ms}).encode() + b"\n"


def times(store: LiveStore, user_id: str) -> list[int]:
    return [one.at_ms for one in store.known(user_id).profile or ()]


@pytest.fixture
def store(tmp_path: Path) -> LiveStore:
    return prepared(tmp_path / "live-state")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / former_file.NAME


def test_all_that_was_told_is_taken_in_and_the_file_goes(store: LiveStore, path: Path) -> None:
    lines = [HEADER, RATED, update("one", 1, 2), update("gone", 1), erasure("gone", 50), update("gone", 60), b"\n"]
    path.write_bytes(b"".join(lines))

    assert take_in(path, store) == 0

    assert not path.exists()
    assert [*(store.known("rater").profile or ())] == [
        Interaction("v1", InteractionType.WATCH, 3, 1200),
        Interaction("v2", InteractionType.RATING, 5, 0, 4.5),
    ]
    assert (times(store, "one"), times(store, "gone")) == ([1, 2], [60])
    assert store.known("gone").forgotten_at_ms == 50
    assert take_in(path, store) == 0, "once"


def test_with_kafka_every_update_is_brought_to_the_other_machines(store: LiveStore, path: Path) -> None:
    path.write_bytes(update("one", 1, told=7) + erasure("two", 3) + update("two", 4, told=8))
    relayed: list[tuple[str, int, int]] = []

    take_in(path, store, relay=lambda user, done, told_ms: relayed.append((user, done[0].at_ms, told_ms)))

    assert relayed == [("one", 1, 7), ("two", 4, 8)]


def test_what_is_too_old_to_keep_is_not_taken_in(store: LiveStore, path: Path) -> None:
    path.write_bytes(update("one", 1, 2, 3))

    take_in(path, store, keep_since_ms=2)

    assert times(store, "one") == [3]


def test_lines_that_cannot_be_read_spoil_no_other(store: LiveStore, path: Path) -> None:
    """Such as a crash or a damaged disk leaves, or a later release writes."""
    odd: list[object] = [
        {},
        [],
        {"user": "u1", "told": 1, "did": [["v1", "dance", 1, 1, None]]},
        {"user": "u1", "told": 1, "did": [["v1\0v2", "like", 1, 1, None]]},
        {"user": "u1", "told": 1, "did": [["v1", "like", 2**70, 1, None]]},
        {"user": "u1", "told": 1, "did": [["v1", "like", 1, True, None]]},
        {"user": "u1", "told": float("inf"), "did": []},
        {"user": None, "told": 1, "did": []},
        {"forget": "no hexadecimal", "at": 1},
        {"forget": "00" * 65, "at": 1},
        {"forget": "00", "at": 1e400},
    ]
    bad = [*(json.dumps(one).encode() for one in odd), b"\xff", b"[" * 100_000, b'{"user":"\\ud800"}']
    cut = update("cut", 1)[:-10]
    path.write_bytes(update("first", 1) + b"\n".join(bad) + b"\n" + update("last", 2) + cut)

    assert take_in(path, store) == len(bad) + 1

    assert (times(store, "first"), times(store, "last")) == ([1], [2])
    assert times(store, "u1") == times(store, "cut") == []


def test_a_line_longer_than_any_entry_takes_no_memory(store: LiveStore, path: Path) -> None:
    path.write_bytes(b"x" * (3 << 20) + b"\n" + update("one", 1))

    assert take_in(path, store) >= 1
    assert times(store, "one") == [1]


def test_many_entries_are_taken_in(store: LiveStore, path: Path) -> None:
    path.write_bytes(b"".join(update(f"u{number}", number) for number in range(2 * former_file.BATCH + 1)))

    take_in(path, store)

    assert all(times(store, f"u{number}") == [number] for number in (0, former_file.BATCH, 2 * former_file.BATCH))


def test_what_the_disk_refuses_stays_in_the_file(tmp_path: Path, path: Path) -> None:
    """And is taken in when there is a store."""
    path.write_bytes(update("one", 1))
    with pytest.raises(StoreError):
        take_in(path, LiveStore(tmp_path / "live-state"))
    assert path.exists()

    store = prepared(tmp_path / "live-state")
    take_in(path, store)
    assert times(store, "one") == [1]
