"""Files that are not what they should be are refused by name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.data.columns import HISTORY, INTERACTIONS, VIDEOS
from retrain.data.text_repair import mend
from retrain.errors import Reason, RunError
from tests.retrain.support.feeds import (
    DAY,
    check_columns,
    input_views,
    read_rows,
    row,
    write_day,
    write_history,
    write_videos,
)


def refusal(path: Path) -> str:
    with pytest.raises(RunError) as caught:
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
    rewrite(good, lambda table: table.set_column(3, "watchTime", table["watchTime"].cast(pa.string())))
    wanted = "2026-03-01/interactions-0000.parquet: column 'watchTime' is VARCHAR, must be integer (1,000 rows)"
    assert refusal(good) == wanted
    rewrite(good, lambda table: table.set_column(0, "userId", pa.array([{"id": "u"}] * 1000)))
    assert "column 'userId' is STRUCT(id VARCHAR), must be string (1,000 rows)" in refusal(good)


def test_a_column_that_is_there_twice_is_named(good: Path) -> None:
    rewrite(good, lambda table: table.append_column("userId", table["videoId"]))
    wanted = "2026-03-01/interactions-0000.parquet: column 'userId' is there 2 times (1,000 rows)"
    assert refusal(good) == wanted


def test_columns_that_differ_by_case_are_two(tmp_path: Path) -> None:
    """Whichever comes first, in whichever file, and also below a column of several."""
    paths = [write_day(tmp_path, f"2026-03-0{day}", [row(f"u{day}", "v")]) for day in (1, 2, 3)]
    rewrite(paths[0], lambda table: table.add_column(0, "userid", pa.array(["SHARED"])))
    rewrite(paths[1], lambda table: table.append_column("USERID", pa.array([{"userId": "inner", "more": [1]}])))
    rewrite(paths[2], lambda table: table.add_column(0, "nested", pa.array([{"userId": "inner", "more": [1]}])))
    assert [found[0] for found in read_rows(paths, INTERACTIONS)] == ["u1", "u2", "u3"]


def test_each_file_is_read_by_its_own_types(tmp_path: Path) -> None:
    """Writers that take the smallest type that does, and those for whom a missing integer makes all fractions."""
    kinds = [pa.int8(), pa.int32(), pa.uint16(), pa.int64(), pa.float64(), pa.float32(), pa.decimal128(21, 2)]
    paths = []
    for number, kind in enumerate(kinds):
        paths.append(write_day(tmp_path, f"2026-03-{number + 1:02}", [row("u", "v", watch_ms=number * 10 + 1)]))
        rewrite(paths[-1], lambda table, kind=kind: table.set_column(3, "watchTime", table["watchTime"].cast(kind)))
    assert [found[3] for found in read_rows(paths, INTERACTIONS)] == [1, 11, 21, 31, 41, 51, 61]


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([2**64 - 1, 5, None], pa.uint64(), [-1, 5, None]),
        ([float("nan"), float("inf"), 1e300, 5e-324, 7.0, None], pa.float64(), [-1, -1, -1, 0, 7, None]),
        ([None, None], pa.null(), [None, None]),
    ],
)
def test_integers_that_are_none_are_set_apart(tmp_path: Path, values: list[object], kind: object, read: object) -> None:
    path = write_day(tmp_path, "2026-03-01", [row(f"u{number}", "v") for number in range(len(values))])
    rewrite(path, lambda table: table.set_column(3, "watchTime", pa.array(values, kind)))
    assert [found[3] for found in read_rows([path], INTERACTIONS)] == read


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_native_times_are_instants(tmp_path: Path, unit: str, zone: str | None) -> None:
    """One without a zone is of UTC, as a text without one is."""
    path = write_day(tmp_path, "2026-03-01", [row("u", "v", time="2026-03-01 12:00:00")])
    plain = read_rows([path], INTERACTIONS)
    times = pa.array([DAY.replace(tzinfo=None if zone is None else DAY.tzinfo, hour=12)], pa.timestamp(unit, zone))
    rewrite(path, lambda table: table.set_column(4, "timestamp", times))
    assert read_rows([path], INTERACTIONS) == plain
    assert plain[0][4] == round(DAY.timestamp() * 1000) + 12 * 3_600_000


def test_times_without_end_are_none(tmp_path: Path) -> None:
    texts = ["infinity", "-infinity", "nan", "epoch-ish", "1e400", ""]
    path = write_day(tmp_path, "2026-03-01", [row("u", "v", time=text) for text in texts])
    assert [found[4] for found in read_rows([path], INTERACTIONS)] == [None] * len(texts)


def test_text_that_is_not_utf8_is_emptied_and_counted(good: Path, tmp_path: Path) -> None:
    spoil(good, 0, 3)
    videos = write_videos(
        tmp_path, [{"videoId": str(number), "tags": tags} for number, tags in enumerate((["a"], None, []))]
    )
    with input_views() as (views, _):
        problem = views.problem(good, INTERACTIONS)
        assert problem
        assert "2026-03-01/interactions-0000.parquet" in problem
        assert views.problem(videos, VIDEOS) is None
    assert mend(good, INTERACTIONS, tmp_path / "mended.parquet") == {"userId": 1}
    assert [found[0] for found in read_rows([tmp_path / "mended.parquet"], INTERACTIONS)].count("") == 1
    assert mend(videos, VIDEOS, tmp_path / "same.parquet") == {}
    assert pq.read_table(tmp_path / "same.parquet").equals(pq.read_table(videos))


def test_lists_lose_only_what_is_not_utf8(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    path = write_videos(tmp_path, [{"videoId": "v", "tags": []}, {"videoId": "w", "tags": []}])
    tags = pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), texts)
    rewrite(path, lambda table: table.set_column(2, "tags", tags))
    assert mend(path, VIDEOS, tmp_path / "mended.parquet") == {"tags": 1}
    assert [found[2] for found in read_rows([tmp_path / "mended.parquet"], VIDEOS)] == [["a", ""], ["c"]]


def spoil(path: Path, column: int, place: int) -> None:
    """Put bytes that are not UTF-8 in the place of one text."""

    def change(table: pa.Table) -> pa.Table:
        texts = [text.as_py().encode() for text in table.column(column)]
        texts[place] = b"u\xff\xfe"
        bad = pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts, pa.binary()).buffers())
        return table.set_column(column, table.column_names[column], bad)

    rewrite(path, change)


@pytest.mark.parametrize("kept", [0, 3, 500, -1])
def test_truncated_file(good: Path, kept: int) -> None:
    good.write_bytes(good.read_bytes()[:kept])
    assert refusal(good).startswith("2026-03-01/interactions-0000.parquet is not a parquet file: ")


def test_damage_below_an_intact_footer_is_found_by_reading(good: Path) -> None:
    data = bytearray(good.read_bytes())
    data[4:400] = b"\xff" * 396
    good.write_bytes(data)
    check_columns(good, INTERACTIONS)
    with input_views() as (views, _):
        problem = views.problem(good, INTERACTIONS)
    assert problem
