"""Files that are not what they should be are refused by name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.failure import Reason, RunFailure
from retrain.schema import HISTORY, INTERACTIONS, VIDEOS, check_columns, find_unreadable
from tests.retrain.feeds import DAY, row, write_day, write_history, write_videos


def refusal(path: Path) -> str:
    with pytest.raises(RunFailure) as caught:
        check_columns(path, INTERACTIONS)
    assert caught.value.reason is Reason.SCHEMA
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_day(tmp_path, "2026-03-01", [row("u", f"v{number}") for number in range(1000)])


def rewrite(path: Path, change: object) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table), path)  # type: ignore[operator]


def test_good_files_pass(good: Path, tmp_path: Path) -> None:
    entry = {"userId": "u", "lastWatchedAt": DAY, "watched": ["v"], "liked": [], "longWatched": []}
    check_columns(good, INTERACTIONS)
    check_columns(write_history(tmp_path, [entry]), HISTORY)
    check_columns(write_videos(tmp_path, [{"videoId": "v"}]), VIDEOS)


def test_dictionary_and_large_strings_pass(good: Path) -> None:
    rewrite(good, lambda table: table.set_column(0, "userId", table["userId"].cast(pa.large_string())))
    rewrite(good, lambda table: table.set_column(2, "interactionType", table["interactionType"].dictionary_encode()))
    check_columns(good, INTERACTIONS)


def test_missing_column(good: Path) -> None:
    rewrite(
        good, lambda table: table.rename_columns(["userId", "video_id", "interactionType", "watchTime", "timestamp"])
    )
    message = refusal(good)
    assert message.startswith("2026-03-01/interactions-0000.parquet: column 'videoId' is missing")
    assert "video_id" in message


def test_wrong_type(good: Path) -> None:
    rewrite(good, lambda table: table.set_column(3, "watchTime", table["watchTime"].cast(pa.float64())))
    assert refusal(good) == "2026-03-01/interactions-0000.parquet: column 'watchTime' is double, must be integer"


@pytest.mark.parametrize("kept", [0, 3, 500, -1])
def test_truncated_file(good: Path, kept: int) -> None:
    good.write_bytes(good.read_bytes()[:kept])
    assert refusal(good).startswith("2026-03-01/interactions-0000.parquet is not a parquet file: ")


def test_damage_below_an_intact_footer_is_found_by_reading(good: Path) -> None:
    data = bytearray(good.read_bytes())
    data[4:400] = b"\xff" * 396
    good.write_bytes(data)
    check_columns(good, INTERACTIONS)
    problem = find_unreadable([good], INTERACTIONS)
    assert problem
    assert str(problem).startswith("2026-03-01/interactions-0000.parquet cannot be read: ")
