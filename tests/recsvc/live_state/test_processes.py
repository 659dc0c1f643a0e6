"""Several processes use one store at once, and die in the middle of it."""

import os
import random
import signal
from pathlib import Path

import pytest

from recsvc.live_state.compaction import compact
from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.preparation import examine, prepare, set_aside
from recsvc.live_state.profile import MAX_PER_USER
from recsvc.live_state.store import LiveStore, StoreError
from tests.recsvc.support.live_state_process import line_of, process
from tests.recsvc.support.live_stores import PAGE_BYTES, data_file, fill, found_wrong, learn, moments, new_store, row

pytestmark = pytest.mark.process

TIMEOUT_S = 60.0


def test_what_each_of_several_writers_committed_is_known_to_readers_through_exchanges(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with (
        process("write", tmp_path, "a") as one,
        process("write", tmp_path, "b") as other,
        process("read", tmp_path, "a", "b") as reader,
    ):
        assert line_of(reader) == "reads"
        for _ in range(5):
            compact(store)
            assert int(line_of(one))
            assert int(line_of(other))
        for writer in (one, other):
            writer.send_signal(signal.SIGKILL)
        assert reader.poll() is None, line_of(reader)
        assert one.stdout
        assert other.stdout
        committed = [int(writer.stdout.read().splitlines()[-1]) for writer in (one, other) if writer.stdout]

    store.environment()
    for user, last in zip("ab", committed, strict=True):
        # What was not told any more may have been committed.
        found = moments(store, user)
        assert found[-1] in (last, last + 1)
        assert found == list(range(1, found[-1] + 1))[-MAX_PER_USER:]
    videos, sums = store.counts(0)
    assert dict(zip(videos, sums, strict=True)) == {b"a": moments(store, "a")[-1], b"b": moments(store, "b")[-1]}
    assert found_wrong(store) == []


def test_a_writer_that_is_killed_changes_nothing_and_holds_nobody(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    learn(store, "a", 1)
    with process("stay_in_transaction", tmp_path) as writer:
        assert line_of(writer) == "writes"
        with pytest.raises(StoreError, match="too long"), store.writing(patience_s=0.1):
            pass
        assert moments(store, "a") == [1]  # readers wait for nobody
        writer.send_signal(signal.SIGKILL)
        writer.wait(TIMEOUT_S)

    learn(store, "a", 2)

    assert moments(store, "a") == [1, 2]
    assert moments(store, "nobody") == []
    assert found_wrong(store) == []


def test_the_file_does_not_grow_for_a_reader_that_was_killed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(500))
    with process("stay_in_reading", tmp_path) as reader:
        assert line_of(reader) == "reads"
        grown = data_file(store).stat().st_size
        for _ in range(20):
            fill(store, range(500), interactions=5)
            fill(store, range(500), interactions=4)
        assert data_file(store).stat().st_size >= grown  # its pages stay
        reader.send_signal(signal.SIGKILL)
        reader.wait(TIMEOUT_S)

    assert store.clear_dead_readers() == 1
    fill(store, range(500))
    size = data_file(store).stat().st_size
    for round_ in range(20):
        with store.writing() as batch:
            for user in range(0, 500, 7):
                batch.learn(f"user-{user}.", [("v", 1, HOUR_MS * 1000 + round_, 1, -1.0)], told_ms=1)

    assert data_file(store).stat().st_size <= size + (1 << 20)


def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with process("fill_disk", tmp_path, str(1 << 20)) as writer:
        number, is_reported, problem = line_of(writer).split(" ", 2)

    assert int(number) > 10
    assert is_reported == "False"  # nothing is damaged
    assert problem.startswith("the live state cannot be written")
    store.environment()
    assert [len(moments(store, f"user-{one}")) for one in range(int(number) + 1)] == [99] * (int(number) + 1)
    assert found_wrong(store) == []


def test_a_compaction_on_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(3000))
    before = store.current()
    with process("compact_on_full_disk", tmp_path, str(400_000)) as one:
        assert line_of(one).startswith("False the live state cannot be compacted")

    assert store.current() == before
    assert store.names() == [before]
    assert len(moments(store, "user-2999.")) == 3
    compact(store)
    assert len(moments(store, "user-2999.")) == 3
    assert found_wrong(store) == []


def test_attempts_on_a_full_disk_leave_nothing_behind(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with process("create_on_full_disk", tmp_path, str(16_384)) as one:
        assert line_of(one).startswith("no live state can be made")

    assert store.names() == [store.current()]


def test_a_reader_whose_file_is_cut_dies_and_the_next_one_does_not(tmp_path: Path) -> None:
    store = LiveStore(tmp_path, is_synced=False)
    prepare(store, session="one")
    with store.writing() as batch:
        batch.learn("a", [row(1)], told_ms=1)
    with process("read", tmp_path, "a") as reader:
        assert line_of(reader) == "reads"
        os.truncate(data_file(store), 2 * PAGE_BYTES)
        assert reader.wait(TIMEOUT_S) == -signal.SIGBUS
    set_aside(tmp_path)
    with process("read", tmp_path, "a") as reader:
        assert line_of(reader) == "reads"  # and knows nothing
        assert examine(store)
        learn(store, "a", 1)
        assert reader.poll() is None
    assert moments(store, "a") == [1]


@pytest.mark.parametrize("seed", range(6))
def test_a_compaction_that_is_killed_at_any_moment_leaves_one_good_store(tmp_path: Path, seed: int) -> None:
    store = new_store(tmp_path)
    fill(store, range(300))
    with process("compact_without_end", tmp_path) as compaction, process("write", tmp_path, "a") as writer:
        assert line_of(compaction).startswith("Compacted")
        for _ in range(random.Random(seed).randint(1, 60)):
            assert line_of(writer)
        compaction.send_signal(signal.SIGKILL)
        compaction.wait(TIMEOUT_S)
        assert line_of(writer)
        writer.send_signal(signal.SIGKILL)
        assert writer.stdout
        last = int(writer.stdout.read().splitlines()[-1])

    other = LiveStore(tmp_path, is_synced=False)
    other.environment()
    store.environment()
    assert moments(other, "a") == moments(store, "a")
    assert moments(other, "a")[-1] in (last, last + 1)
    assert len(moments(other, "user-299.")) == 3
    assert found_wrong(other) == []
    compact(other)
    assert moments(other, "a")[-1] in (last, last + 1)
    assert found_wrong(other) == []
