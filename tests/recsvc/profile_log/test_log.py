import multiprocessing
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.profile_log.entry import MAX_LINE_BYTES, Entry, Erasure, Update
from recsvc.profile_log.follower import JournalFollower
from recsvc.profile_log.lines import STEP_BYTES
from recsvc.profile_log.log import ERASED_AFTER_S, ProfileLog
from servicekit.user_fingerprint import user_fingerprint
from tests.bridge.support.clock import FakeClock
from tests.support.polling import wait_for


def journal(path: Path, max_bytes: int = 2**20, clock: Callable[[], float] = FakeClock()) -> ProfileLog:  # noqa: B008
    return ProfileLog(path, max_bytes=max_bytes, clock=clock)


def told(number: int, user_id: str = "somebody") -> Update:
    return Update(user_id, number, [Interaction("v1", InteractionType.RATING, number, 5, 4.5)])


def gone(user_id: str, at_ms: int) -> Erasure:
    return Erasure(user_fingerprint(user_id), at_ms)


def read(reader: ProfileLog) -> list[Entry]:
    entries: list[Entry] = []
    reader.follow(entries.append)
    return entries


def test_every_reader_gets_every_entry_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "j"
    writer, reader = (journal(path) for _ in range(2))
    assert read(reader) == []

    writer.append([told(1), gone("x", 2)])
    assert [read(reader), read(reader)] == [[told(1), gone("x", 2)], []]
    reader.append([told(3)])
    assert read(reader) == [told(3)]
    assert read(writer) == read(journal(path)) == [told(1), gone("x", 2), told(3)]


def test_readers_go_on_where_they_were_when_the_file_was_compacted(tmp_path: Path) -> None:
    writer, reader, late = (journal(tmp_path / "j") for _ in range(3))
    writer.append([told(1, "a"), told(2, "b")])
    read(reader)
    writer.append([gone("a", 3), told(4, "a")])

    writer.compact()
    writer.append([told(5)])

    assert read(reader) == [gone("a", 3), told(4, "a"), told(5)]
    writer.compact()
    writer.append([told(6)])
    writer.compact()
    assert [read(reader), read(reader)] == [[told(2, "b"), gone("a", 3), told(4, "a"), told(5), told(6)], []]
    assert read(late) == read(journal(tmp_path / "j")) == [told(2, "b"), gone("a", 3), told(4, "a"), told(5), told(6)]


def test_what_comes_while_the_file_is_compacted_is_kept_and_known_at_once(tmp_path: Path) -> None:
    writer, reader = (journal(tmp_path / "j") for _ in range(2))
    writer.append([told(number, "x" * 100) for number in range(2000)])
    read(reader)
    seen: list[Entry] = []

    def meanwhile() -> None:
        if not seen:
            reader.append([told(1, "during"), gone("x" * 100, 5000)])
            seen.extend(read(reader))

    writer.compact(meanwhile)

    assert seen == [told(1, "during"), gone("x" * 100, 5000)]
    assert read(journal(tmp_path / "j"))[-2:] == seen
    assert [read(reader), reader._erased_at is not None] == [[], True], "it was erased too late, and is due again"
    writer.compact()
    assert read(journal(tmp_path / "j")) == seen


def test_erasures_leave_the_file_after_a_while_and_together(tmp_path: Path) -> None:
    clock = FakeClock()
    one = journal(tmp_path / "j", clock=clock)
    one.append([told(1, "a"), gone("a", 2)])
    read(one)
    assert not one.is_due()
    clock.now += ERASED_AFTER_S
    assert one.is_due()

    one.compact()
    read(one)
    clock.now += ERASED_AFTER_S

    assert not one.is_due()
    assert read(journal(tmp_path / "j")) == [gone("a", 2)]


def test_a_full_journal_loses_old_updates_but_no_erasure(tmp_path: Path) -> None:
    one = journal(tmp_path / "j", max_bytes=4000)
    one.append([gone("a", 1), *(told(number) for number in range(100))])
    read(one)
    assert one.is_due()

    one.compact()

    kept = read(journal(tmp_path / "j"))
    assert (tmp_path / "j").stat().st_size <= 4000
    assert (kept[0], kept[-1]) == (gone("a", 1), told(99))


def test_updates_that_come_faster_than_the_file_is_compacted_are_refused_and_erasures_never(tmp_path: Path) -> None:
    one = journal(tmp_path / "j", max_bytes=1000)
    with pytest.raises(OSError, match="full"):  # noqa: PT012  # whichever is one too many
        for number in range(100):
            one.append([told(number)])
    one.append([gone("a", 1000)])

    one.compact()
    one.append([told(101)])

    assert read(journal(tmp_path / "j"))[-2:] == [gone("a", 1000), told(101)]


def test_of_several_erasures_of_one_user_the_last_is_kept(tmp_path: Path) -> None:
    one = journal(tmp_path / "j")
    one.append([gone("a", number) for number in range(100)])

    one.compact()

    assert read(journal(tmp_path / "j")) == [gone("a", 99)]


def test_a_line_that_a_crash_cut_short_spoils_no_other(tmp_path: Path) -> None:
    writer, reader = (journal(tmp_path / "j") for _ in range(2))
    writer.append([told(1)])
    with (tmp_path / "j").open("ab") as handle:
        handle.write(b'{"user":')
    read(reader)
    writer.compact()

    writer.append([told(2)])

    assert read(reader) == [told(2)]
    assert read(journal(tmp_path / "j")) == [told(1), told(2)]


def test_a_reader_takes_bounded_steps_and_passes_over_what_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"x" * (3 * MAX_LINE_BYTES) + b"\n")
    one = journal(tmp_path / "j", max_bytes=2**30)
    for number in range(20):
        one.append([told(number, "x" * 128) for _ in range(STEP_BYTES // 1000)])
    pauses: list[None] = []

    found: list[Entry] = []
    one.follow(found.append, lambda: pauses.append(None))

    assert len(found) == 20 * (STEP_BYTES // 1000)
    assert len(pauses) >= (tmp_path / "j").stat().st_size // STEP_BYTES - 3 * MAX_LINE_BYTES // STEP_BYTES


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    one = journal(tmp_path / "j")
    one.append([told(1)])
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600
    one.compact()
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600


def test_a_compaction_that_finds_no_room_leaves_all_as_it_was(tmp_path: Path) -> None:
    one = journal(tmp_path / "j")
    one.append([told(1), gone("somebody", 2)])
    (tmp_path / "j.partial").mkdir()

    with pytest.raises(OSError, match="partial"):
        one.compact()

    assert read(journal(tmp_path / "j")) == [told(1), gone("somebody", 2)]


def test_looking_when_nothing_changed_reads_nothing(tmp_path: Path) -> None:
    """A look is made twenty times a second: without a change, it may not even open the file."""
    writer, reader = (journal(tmp_path / "j") for _ in range(2))
    writer.append([told(1)])
    read(reader)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").unlink()

    assert read(reader) == []

    (tmp_path / "j").write_bytes(content)
    writer.append([told(2)])
    assert read(reader)[-1] == told(2)


def test_a_follower_learns_in_its_thread_and_has_the_file_compacted(tmp_path: Path) -> None:
    clock = FakeClock()
    followed, found = journal(tmp_path / "j", clock=clock), list[tuple[Entry, str]]()
    follower = JournalFollower(followed, lambda entry: found.append((entry, threading.current_thread().name)))
    other = journal(tmp_path / "j")
    other.append([told(1, "a")])
    follower.start()
    try:
        assert found == [(told(1, "a"), threading.current_thread().name)]
        other.append([gone("a", 2)])
        wait_for(lambda: found[1:] == [(gone("a", 2), "journal")], what="the erasure")
        clock.now += ERASED_AFTER_S
        wait_for(lambda: b'"a"' not in (tmp_path / "j").read_bytes(), what="a file without what was erased")
    finally:
        follower.stop()


def _write(path: Path, name: str) -> None:
    writer = journal(path)
    for number in range(50):
        writer.append([told(number, name)])
        if number % 10 == 0:
            writer.compact()
    os._exit(0)


@pytest.mark.process
def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Also while each of them compacts the file."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(tmp_path / "j", name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0

    entries = read(journal(tmp_path / "j"))
    assert sorted((entry.user_id, entry.told_ms) for entry in entries if isinstance(entry, Update)) == sorted(
        (name, number) for name in "abc" for number in range(50)
    )
