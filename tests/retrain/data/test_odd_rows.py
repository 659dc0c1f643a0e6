"""Rows that cannot be used are set aside, named and counted; what stands in their day is trained on."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.data.prepare import Interactions, prepare
from retrain.errors import Reason, RunError
from servicekit.storage.object_store import FileStore
from tests.retrain.support.feeds import DAY, at, row, write_day, write_history
from tests.retrain.support.prepared import aged, prepared, weights


@contextmanager
def prepared_files(folder: Path) -> Iterator[Interactions]:
    """Yield what the exports of one day in a folder come to."""
    store = FileStore(folder / "exports")
    window = choose_window(store, last=date(2026, 3, 1), length=1, marker_required=False)
    source = fetch(window, store, FileStore(folder), folder)
    with TemporaryDirectory() as scratch, DuckDbSession(Path(scratch), memory="200MiB", threads=2) as warehouse:
        yield prepare(source, window, warehouse)


def test_broken_rows_are_dropped_and_counted_by_reason() -> None:
    rows = [
        row("u", "v"),
        row(None, "v"),
        row("", "v"),
        row("u\n", "v"),
        row("u" * 129, "v"),
        row("u", None),
        row("u", ""),
        row("u", "v", watch_ms=-1),
        row("u", "v", watch_ms=None),
        row("u", "v", "teleport"),
        row("u", "v", None),
        row("u", "v", time="yesterday"),
        row("u", "v", time=""),
        row("u", "v", time=at(24)),
    ]
    with prepared(rows) as interactions:
        counts = interactions.counts
        assert counts.broken == {
            "future": 1,
            "interaction_type": 2,
            "timestamp": 2,
            "user_id": 4,
            "video_id": 2,
            "watch_time": 2,
        }
        assert (counts.read, counts.events, counts.users, counts.videos) == (14, 1, 1, 1)


def test_a_watch_time_is_missing_only_where_it_says_something() -> None:
    rows = [row("u", kind, kind, None) for kind in ("impression", "like", "share", "complete", "watch")]
    with prepared(rows) as interactions:
        assert interactions.counts.broken == {"watch_time": 1}
        assert set(weights(interactions)) == {("u", "like"), ("u", "share"), ("u", "complete")}


@pytest.mark.parametrize(
    "folder", ["feed[12]", "videoId=all", "a*b", "wh?t", "back\\slash", "sp ace#%20", "{a,b}", "'q'"]
)
def test_no_name_is_a_pattern_or_a_column(tmp_path: Path, folder: str) -> None:
    """Beside what such a name would match as a pattern; in folders and in files."""
    for other in ("feed1", "videoId", "axb", "what", "back/slash"):
        write_day(tmp_path / other / "exports", "2026-03-01", [row("other", "x")])
    exports = tmp_path / folder / "exports"
    write_day(exports, "2026-03-01", [row("good", "v")])
    day = exports / "2026-03-01"
    for number, name in enumerate(("part[1].parquet", "part1.parquet", "p?rt.parquet", "*.parquet")):
        write_day(tmp_path / "made", "2026-03-01", [row(f"u{number}", "v")]).rename(day / name)
    with prepared_files(tmp_path / folder) as interactions:
        assert interactions.counts.read == 5
        assert interactions.users().array.tolist() == [b"good", b"u0", b"u1", b"u2", b"u3"]
        assert interactions.videos().array.tolist() == [b"v"]


def test_text_that_is_not_utf8_costs_its_row_only(tmp_path: Path) -> None:
    path = write_day(tmp_path / "exports", "2026-03-01", [row("a", "v"), row("b", "v"), row("c", "w", "like", 0)])
    erase = {"userId": "u", "lastWatchedAt": DAY, "watched": ["v"], "liked": [], "longWatched": []}
    write_history(tmp_path, [erase])
    table = pq.read_table(path)
    texts = pa.array([b"a", b"u\xff\xfe", b"c"], pa.binary())
    bad = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(table.set_column(0, "userId", bad), path)
    with capture_logs() as logs, prepared_files(tmp_path) as interactions:
        assert interactions.counts.broken == {"user_id": 1}
        assert interactions.users().array.tolist() == [b"a", b"c", b"u"]
    (told,) = [one for one in logs if one["event"] == "input.mended"]
    assert (told["file"], told["not_utf8"]) == ("2026-03-01/interactions-0000.parquet", {"userId": 1})


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = write_day(tmp_path / "exports", "2026-03-01", [row("u", f"v{number}") for number in range(1000)])
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    with (
        pytest.raises(RunError, match=r"^2026-03-01/interactions-0000.parquet cannot be read: ") as caught,
        prepared_files(tmp_path),
    ):
        pass
    assert caught.value.reason is Reason.SCHEMA


def test_what_is_odd_in_the_other_files_is_counted() -> None:
    videos: list[dict[str, Any]] = [
        {"videoId": ""},
        {"videoId": "v", "durationMs": -5},
        {"videoId": "w", "authorId": ""},
    ]
    past: list[dict[str, Any]] = [
        {"userId": "", "lastWatchedAt": DAY, "watched": ["v"], "liked": [], "longWatched": []},
        {"userId": "u", "lastWatchedAt": DAY, "watched": ["", None, "v"], "liked": [], "longWatched": []},
    ]
    with capture_logs() as logs, prepared([row("u", "v")], videos=videos, history=past) as interactions:
        assert interactions.counts.past_events == 1
    (told,) = [one for one in logs if one["event"] == "interactions.set_aside"]
    assert {name: rows for name, rows in told.items() if name.startswith(("catalogue", "history"))} == {
        "catalogue_author_id": 1,
        "catalogue_duration": 1,
        "catalogue_video_id": 1,
        "history_user_id": 1,
        "history_video_id": 2,
    }


def test_identifier_of_128_bytes_is_good() -> None:
    with prepared([row("ü" * 64, "v")]) as interactions:
        assert interactions.users().ids(np.array([0])) == ["ü" * 64]


def test_repeated_delivery_counts_once_with_its_longest_watch() -> None:
    rows = [row("u", "v", watch_ms=1000), row("u", "v", watch_ms=9000), row("u", "v", watch_ms=9000)]
    with prepared(rows) as interactions:
        assert interactions.counts.repeated == 2
        assert weights(interactions) == {("u", "v"): aged(0.3 + 0.7 * 0.5, 12)}


def test_day_without_a_usable_row_is_refused_with_the_counts() -> None:
    with (
        pytest.raises(RunError, match=r"2026-03-01 holds no usable interaction; .*'watch_time': 1") as caught,
        prepared([row("u", "v", watch_ms=-1)]),
    ):
        pass
    assert caught.value.reason is Reason.DATA
