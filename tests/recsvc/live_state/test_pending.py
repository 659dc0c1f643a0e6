"""What waits for Kafka survives, in order, and is refused when there is no room."""

import multiprocessing
import os
import shutil
import threading
from pathlib import Path

import pytest

from recsvc.live_state.environment import DATA
from recsvc.live_state.pending import FOLDER, LOCK, Pending
from recsvc.live_state.store import StoreError
from servicekit.files.lock import FileLock
from tests.recsvc.support.live_stores import contents


def test_records_come_back_in_order_until_they_are_removed(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    pending.add("updates", b"u1", b"{}", [("erased-at", b"7"), ("", b"")])
    pending.add("updates", b"u2", None)
    pending.add("updates", b"", b"")

    found = Pending(tmp_path).oldest(2)
    assert [one[1:] for one in found] == [
        ("updates", b"u1", b"{}", [("erased-at", b"7"), ("", b"")]),
        ("updates", b"u2", None, []),
    ]
    pending.remove(one.place for one in found)
    assert [one.key for one in pending.oldest(9)] == [b""]
    assert len(pending) == 1


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    pending = Pending(tmp_path)

    def add(name: str) -> None:
        for number in range(20):
            pending.add("t", f"{name}{number}".encode(), b"")

    threads = [threading.Thread(target=add, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.key for one in pending.oldest(100)}) == 40


@pytest.mark.process
def test_a_process_that_died_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_add_and_die, args=(tmp_path,))
    child.start()
    child.join()
    assert [one.key for one in Pending(tmp_path).oldest(9)] == [b"u1"]


def _add_and_die(folder: Path) -> None:
    import os  # noqa: PLC0415  # in the child
    import signal  # noqa: PLC0415  # likewise

    Pending(folder).add("t", b"u1", b"v")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_folder_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    pending = Pending(tmp_path, max_bytes=1 << 20)

    def fill() -> None:
        for _ in range(100):
            pending.add("t", b"u", b"x" * 60_000)

    with pytest.raises(StoreError, match="MDB_MAP_FULL"):
        fill()
    kept = len(pending)
    assert kept
    assert len(pending.oldest(1000)) == kept


def test_a_writer_that_is_stopped_holds_nobody_up_for_long(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    with FileLock(tmp_path / LOCK), pytest.raises(StoreError, match="too long"):
        pending.add("t", b"u", b"v")


def test_a_record_that_the_disk_changed_is_told_apart(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    for user in (b"u1", b"u2"):
        pending.add("t", user, b"v")
    with pending._current().lmdb.begin(write=True) as transaction, transaction.cursor() as cursor:
        assert cursor.first()
        place, packed = bytes(cursor.key()), bytes(cursor.value())
        transaction.put(place, packed[:-1] + b"w")
    assert (tmp_path / FOLDER / "data.mdb").exists()

    assert pending.damaged(9) == [place]
    assert [one.key for one in pending.oldest(9)] == [b"u2"]


@pytest.mark.parametrize("content", [b"no store" * 2000, b"", None], ids=["foreign", "empty", "cut"])
def test_a_file_that_is_damaged_gives_way_to_an_empty_one(tmp_path: Path, content: bytes | None) -> None:
    """Whoever mapped it would be killed, at each start again."""
    Pending(tmp_path).add("t", b"u1", b"v" * 20_000)
    file = tmp_path / FOLDER / DATA
    if content is None:
        os.truncate(file, 3 * 4096)
    else:
        file.write_bytes(content)

    pending = Pending(tmp_path)
    pending.add("t", b"u2", b"v")

    assert [one.key for one in Pending(tmp_path).oldest(9)] == [b"u2"]


def test_who_has_a_file_open_that_gave_way_goes_on_with_the_next(tmp_path: Path) -> None:
    """Else what is acknowledged would lie in a file that nobody finds."""
    pending = Pending(tmp_path)
    pending.add("t", b"u1", b"v")
    shutil.rmtree(tmp_path / FOLDER)

    pending.add("t", b"u2", b"v")

    assert [one.key for one in Pending(tmp_path).oldest(9)] == [b"u2"]
    assert len(pending) == 1


def test_nothing_of_what_was_sent_stays_on_disk(tmp_path: Path) -> None:
    """A free page would hold what a user did who is forgotten later."""
    writer, relay = Pending(tmp_path), Pending(tmp_path)
    for number in range(50):
        writer.add("t", f"erased-user-{number}".encode(), b"v" * 500)
    assert b"erased-user" in contents(tmp_path)

    relay.remove([one.place for one in relay.oldest(99)])

    assert b"erased-user" not in contents(tmp_path)
    writer.add("t", b"u2", b"v")
    assert [one.key for one in relay.oldest(9)] == [b"u2"]
