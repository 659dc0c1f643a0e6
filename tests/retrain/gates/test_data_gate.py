"""What the gate refuses before training, and what it lets pass."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from retrain.data.day_facts import DayFacts
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.data.prepare import prepare
from retrain.gates.data_gate import data_problems
from servicekit.storage.object_store import FileStore

USUAL = [
    DayFacts(
        day=day,
        events=10_000,
        top_video_share=0.02,
        new_user_share=0.1,
        events_of_known_users=2.0,
        video_agreement=0.8,
        repeat_share=0.02,
        silent_share=0.0,
    )
    for day in range(6)
]
LAST = replace(USUAL[-1], day=6)


def problems(last: DayFacts, *, earlier: int = 6, broken: int = 0, repeated: int = 0) -> list[str]:
    return data_problems([*USUAL[:earlier], last], read=70_000, broken=broken, repeated=repeated)


def test_day_like_the_others_passes() -> None:
    day = replace(
        LAST,
        events=7000,
        top_video_share=0.1,
        new_user_share=0.3,
        events_of_known_users=1.5,
        video_agreement=0.5,
        repeat_share=0.03,
        silent_share=0.2,
    )
    assert problems(day) == []


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (replace(LAST, events=5000), "5,000 interactions, 50% of the median"),
        (replace(LAST, events_of_known_users=1.2), "1.20 interactions each on the last day, 60% of the median"),
        (replace(LAST, silent_share=0.4), "next to nothing in hours that usually hold 40%"),
        (replace(LAST, top_video_share=1.0), "100% of the last day's interactions are with one video"),
        (replace(LAST, new_user_share=0.95), "95% of the last day's interactions are by users not known before"),
        (replace(LAST, video_agreement=0.2), "video ids may have changed"),
        (replace(LAST, repeat_share=0.06), "user ids may have changed"),
        (replace(LAST, repeat_share=0.001), "user ids may have changed"),
    ],
)
def test_poisoned_day_is_refused_with_one_reason(last: DayFacts, words: str) -> None:
    (reason,) = problems(last)
    assert words in reason


def test_broken_and_repeated_rows_are_refused() -> None:
    reasons = problems(LAST, broken=20_000, repeated=40_000)
    assert [reason.split(" of")[0] for reason in reasons] == ["29%", "57%"]


def test_too_few_days_are_not_compared() -> None:
    assert problems(replace(LAST, events=1), earlier=2) == []


@contextmanager
def real_days(data: Path, folder: Path, last_day: str) -> Iterator[FileStore]:
    """Yield the real exports with another last day: a query on its rows, `today`."""
    exports = folder / "exports"
    shutil.copytree(data / "exports", exports, copy_function=lambda source, target: Path(target).symlink_to(source))
    (file,) = (exports / "2022-04-30").glob("*.parquet")
    other = folder / "other.parquet"
    with duckdb.connect() as engine:
        engine.execute(f"CREATE VIEW today AS SELECT *, row_number() OVER () AS row FROM read_parquet('{file}')")  # noqa: S608  # a file of the test's own
        engine.execute(f"COPY ({last_day}) TO '{other}' (FORMAT parquet)")
    file.unlink()
    other.rename(file)
    yield FileStore(exports)


SHUFFLED = """
WITH ids AS (SELECT {id} AS id, row_number() OVER (ORDER BY {id}) AS place FROM today GROUP BY {id}),
others AS (SELECT id, row_number() OVER (ORDER BY hash(id)) AS place FROM ids)
SELECT today.* EXCLUDE (row) REPLACE (others.id AS {id})
FROM today JOIN ids ON ids.id = today.{id} JOIN others USING (place)
"""


@pytest.mark.parametrize(
    ("last_day", "word"),
    [
        ("SELECT * EXCLUDE (row) FROM today", ""),
        ("SELECT * EXCLUDE (row) FROM today WHERE row % 2 = 0", "some are missing"),
        ("SELECT * EXCLUDE (row) FROM today WHERE \"timestamp\" < '2022-04-30T11'", "in hours that usually hold"),
        (SHUFFLED.format(id='"userId"'), "user ids may have changed"),
        (SHUFFLED.format(id='"videoId"'), "video ids may have changed"),
    ],
    ids=["as is", "half of the rows", "half of the hours", "shuffled users", "shuffled videos"],
)
def test_damage_to_a_busy_day_of_real_traffic_is_seen(
    shared_data: Path, tmp_path: Path, last_day: str, word: str
) -> None:
    """The last day is a quarter above the median, so that half of it is not few in number; as it is, it passes."""
    data = shared_data / "kuairand"
    with real_days(data, tmp_path, last_day) as exports:
        window = choose_window(exports, last=None, length=30, marker_required=False)
        source = fetch(window, exports, FileStore(data), tmp_path)
        with DuckDbSession(tmp_path, memory="1GiB", threads=2) as warehouse:
            days = prepare(source, window, warehouse).days()
    found = data_problems(days, read=sum(day.events for day in days), broken=0, repeated=0)
    assert bool(found) == bool(word)
    assert any(word in problem for problem in found) or not word
