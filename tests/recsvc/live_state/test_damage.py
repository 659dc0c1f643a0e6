"""Damage while the store is in use: nothing is known of whom it hit, it is reported, and no page fails."""

import os
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest

from recsvc.live_state.environment import ABOUT, COUNTS, DATA, ERASURES, HOURS, MIN_MAP_BYTES, PROFILES, PROGRESS
from recsvc.live_state.keys import partition_key, read_place, sealed, unsealed, within_hour
from recsvc.live_state.profile import DamagedError
from recsvc.live_state.store import UNKNOWN, LiveStore, StoreError
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.live_stores import (
    PAGE_BYTES,
    data_file,
    fill,
    forget,
    found_wrong,
    learn,
    moments,
    new_store,
    overwrite,
    row,
)


def write_raw(store: LiveStore, database: str, key: bytes, value: bytes) -> None:
    """Write a value as a damaged disk would show it."""
    environment = store.environment()
    assert environment
    with environment.begin(write=True) as transaction:
        transaction.put(key, value, db=environment[database])


def raw(store: LiveStore, database: str, key: bytes) -> bytes:
    environment = store.environment()
    assert environment
    value = environment.value(database, key)
    assert value
    return value


def flipped(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


def test_nothing_is_known_of_a_user_whose_profile_is_damaged(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    learn(store, "a", 1)
    learn(store, "b", 1)
    write_raw(store, PROFILES, b"a", flipped(raw(store, PROFILES, b"a")))
    assert not store.damage.is_reported

    assert store.known("a") == UNKNOWN
    assert moments(store, "b") == [1]
    assert store.damage.is_reported


def test_nor_of_one_whose_mark_is_damaged(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    forget(store, "a", 5)
    mark = user_fingerprint("a")
    write_raw(store, ERASURES, mark, flipped(raw(store, ERASURES, mark)))

    assert store.look("a") == (None, None)
    assert store.damage.is_reported
    with pytest.raises(StoreError):
        list(store.marks())


@pytest.mark.parametrize("value", [b"", b"short", b"far too long for what is expected here", b"\0" * 20])
def test_no_small_value_is_believed_without_its_checksum(tmp_path: Path, value: bytes) -> None:
    store = new_store(tmp_path)
    fill(store, range(1))
    write_raw(store, HOURS, b"\0\0\0\0", value)
    write_raw(store, COUNTS, within_hour(0, "video-0"), value)
    write_raw(store, PROGRESS, partition_key("topic", 0), value)
    write_raw(store, ABOUT, b"cluster", value)

    for read in (store.hours, lambda: store.counts(0), store.progress, store.about):
        with pytest.raises(StoreError):
            read()
    assert store.damage.reports == 4
    with pytest.raises(DamagedError):
        unsealed(value)
    with pytest.raises(DamagedError):
        read_place(sealed(value))


def write_two(store: LiveStore) -> None:
    """Write what can be written, and what meets the damage."""
    with store.writing() as batch:
        batch.count({(1, "video"): 1.0})
        batch.learn("a", [row(2)], told_ms=2)


def test_a_batch_that_meets_damage_changes_nothing(tmp_path: Path) -> None:
    """Else it would put what it was told in the place of all that was known."""
    store = new_store(tmp_path)
    learn(store, "a", 1)
    damaged = flipped(raw(store, PROFILES, b"a"))
    write_raw(store, PROFILES, b"a", damaged)

    with pytest.raises(StoreError):
        write_two(store)

    assert raw(store, PROFILES, b"a") == damaged
    assert store.hours() == {}
    assert store.damage.is_reported


def test_a_file_that_ends_too_early_is_not_mapped(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(1000))
    file = data_file(store)
    os.truncate(file, file.stat().st_size - PAGE_BYTES)
    other = LiveStore(tmp_path, is_synced=False)
    del store

    with pytest.raises(StoreError), other.writing():
        pass
    assert other.known("user-999.") == UNKNOWN
    assert other.damage.is_reported


@pytest.mark.parametrize("content", [b"", b"\0" * PAGE_BYTES, b"\xff" * 3 * PAGE_BYTES])
def test_what_is_no_store_is_not_mapped(tmp_path: Path, content: bytes) -> None:
    store = LiveStore(tmp_path)
    (tmp_path / "store-7").mkdir()
    (tmp_path / "store-7" / DATA).write_bytes(content)

    with store.turn():
        store.make_current("store-7")

    assert store.environment() is None
    assert store.known("a") == UNKNOWN
    assert store.damage.is_reported


def test_a_page_that_points_nowhere_is_no_failure(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(2000))
    environment = store.environment()
    assert environment
    with environment.begin() as transaction:
        assert transaction.stat(environment[PROFILES])["depth"] > 1
    content = data_file(store).read_bytes()
    # The pages that say where leaves are: their pointers go beyond the end of the file.
    for at in range(0, len(content), PAGE_BYTES):
        flags = int.from_bytes(content[at + 10 : at + 12], "little")
        if flags == 1:
            lower = int.from_bytes(content[at + 12 : at + 14], "little")
            for place in range(at + 16, at + lower, 2):
                node = at + int.from_bytes(content[place : place + 2], "little")
                overwrite(data_file(store), node, (1 << 20).to_bytes(4, "little"))

    assert [store.known(f"user-{number}.") for number in range(2000)] == [UNKNOWN] * 2000
    assert store.damage.is_reported
    assert found_wrong(store)


def test_a_full_map_loses_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsvc.live_state.environment.MIN_MAP_BYTES", 1 << 20)
    store = new_store(tmp_path, max_bytes=1)
    assert MIN_MAP_BYTES > 1 << 20

    number = 0
    with suppress(StoreError):
        while True:
            learn(store, f"user-{number}", *range(100))
            number += 1

    assert number > 10
    assert [len(moments(store, f"user-{one}")) for one in range(number + 1)] == [100] * number + [0]
    assert not store.damage.is_reported
    for one in range(number // 2):  # what is dropped makes room
        with store.writing() as batch:
            batch.drop(f"user-{one}")
    learn(store, "somebody", *range(100))
    assert len(moments(store, "somebody")) == 100
    assert found_wrong(store) == []


def test_an_environment_is_opened_once_a_process(tmp_path: Path) -> None:
    one, other = new_store(tmp_path), LiveStore(tmp_path, is_synced=False)

    assert one.environment() is other.environment()
    with pytest.raises(lmdb.Error):
        lmdb.Environment(str(data_file(one).parent))
