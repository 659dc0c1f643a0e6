"""Which days a run trains on."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.data.columns import INTERACTIONS
from retrain.data.exports import MARKER, ExportDay, Window, choose_window, list_days, local_copies
from retrain.errors import Reason, RunError
from servicekit.storage.object_store import FileStore, open_store
from tests.retrain.support.feeds import read_rows, row, write_day
from tests.support.s3 import new_bucket


def window(folder: Path, *, last: date | None = None, length: int = 30, marker_required: bool = False) -> Window:
    return choose_window(FileStore(folder), last=last, length=length, marker_required=marker_required)


def refusal(folder: Path, *, last: date | None = None, marker_required: bool = False) -> str:
    with pytest.raises(RunError) as caught:
        window(folder, last=last, marker_required=marker_required)
    assert caught.value.reason is Reason.EXPORTS
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_newest_day_ends_the_window_and_its_length_is_in_days(tmp_path: Path) -> None:
    for day in ("2026-02-27", "2026-02-28", "2026-03-02"):
        write_day(tmp_path, day, [row("u", "v")])
    chosen = window(tmp_path, length=3)
    assert [one.day for one in chosen.days] == [date(2026, 2, 28), date(2026, 3, 2)]
    assert chosen.until.isoformat() == "2026-03-03T00:00:00+00:00"
    assert chosen.keys == ["2026-02-28/interactions-0000.parquet", "2026-03-02/interactions-0000.parquet"]


def test_files_that_are_no_exports_are_passed_over(tmp_path: Path) -> None:
    write_day(tmp_path, "2026-03-01", [row("u", "v")])
    for name in ("2026-03-01/_temporary.parquet", "2026-03-01/part.crc", "notes/a.parquet", "2026-02-31/a.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_days(FileStore(tmp_path)) == [
        ExportDay(day=date(2026, 3, 1), keys=("2026-03-01/interactions-0000.parquet",), marked=False)
    ]


def test_day_without_marker_is_left_out_where_markers_are_required(tmp_path: Path) -> None:
    write_day(tmp_path, "2026-03-01", [row("u", "v")], marked=True)
    write_day(tmp_path, "2026-03-02", [row("u", "v")])
    chosen = window(tmp_path, marker_required=True)
    assert (chosen.last, chosen.incomplete) == (date(2026, 3, 1), (date(2026, 3, 2),))
    assert window(tmp_path).last == date(2026, 3, 2)


def test_asked_for_day_must_be_complete(tmp_path: Path) -> None:
    write_day(tmp_path, "2026-03-01", [row("u", "v")], marked=True)
    write_day(tmp_path, "2026-03-02", [row("u", "v")])
    message = refusal(tmp_path, last=date(2026, 3, 2), marker_required=True)
    assert message == f"{tmp_path.as_uri()}/2026-03-02 is not complete: {MARKER} is missing"


def test_no_complete_day_at_all(tmp_path: Path) -> None:
    write_day(tmp_path, "2026-03-01", [row("u", "v")])
    assert "2026-03-01/_SUCCESS is missing" in refusal(tmp_path, marker_required=True)


def test_empty_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path.as_uri()} holds no YYYY-MM-DD/*.parquet"


def test_folder_above_the_days_is_told_from_an_empty_one(tmp_path: Path) -> None:
    write_day(tmp_path / "exports", "2026-03-01", [row("u", "v")])
    assert refusal(tmp_path).endswith(f"did you mean {tmp_path.as_uri()}/exports?")


def test_unknown_day_is_refused_with_the_days_there_are(tmp_path: Path) -> None:
    write_day(tmp_path, "2026-03-01", [row("u", "v")])
    assert refusal(tmp_path, last=date(2026, 4, 1)).endswith("no day 2026-04-01; it goes from 2026-03-01 to 2026-03-01")


def test_complete_day_without_files(tmp_path: Path) -> None:
    (tmp_path / "2026-03-01").mkdir()
    (tmp_path / "2026-03-01" / MARKER).touch()
    assert refusal(tmp_path) == f"{tmp_path.as_uri()}/2026-03-01 holds no parquet file"


class Listing:
    """A store that only lists."""

    url = "file:///listing"

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys

    def list(self, prefix: str) -> list[str]:
        return [key for key in self.keys if key.startswith(prefix)]


@given(
    marked=st.dictionaries(st.integers(0, 40), st.booleans(), min_size=1),
    length=st.integers(1, 20),
)
def test_window_holds_exactly_the_complete_days_of_its_time(marked: dict[int, bool], length: int) -> None:
    days = {date(2026, 1, 1) + timedelta(days=number): complete for number, complete in marked.items()}
    keys = [f"{day}/a.parquet" for day in days] + [f"{day}/{MARKER}" for day, complete in days.items() if complete]
    store = Listing(sorted(keys))
    complete = sorted(day for day, is_complete in days.items() if is_complete)
    if not complete:
        with pytest.raises(RunError):
            choose_window(store, last=None, length=length, marker_required=True)  # type: ignore[arg-type]
        return
    chosen = choose_window(store, last=None, length=length, marker_required=True)  # type: ignore[arg-type]
    start = complete[-1] - timedelta(days=length - 1)
    assert [one.day for one in chosen.days] == [day for day in complete if day >= start]
    assert set(chosen.incomplete) == {day for day, is_complete in days.items() if not is_complete and day >= start}


def test_days_of_a_bucket_are_listed_and_downloaded(
    tmp_path: Path, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{new_bucket(s3_environment)}/exports")
    source = write_day(tmp_path / "source", "2026-03-01", [row("u", "v")], marked=True)
    store.upload(source, "2026-03-01/part-0.parquet")
    with pytest.raises(RunError, match="is complete"):
        choose_window(store, last=None, length=30, marker_required=True)
    store.upload(source.with_name(MARKER), f"2026-03-01/{MARKER}")
    chosen = choose_window(store, last=None, length=30, marker_required=True)
    (copy,) = local_copies(store, chosen.keys, tmp_path / "copies")
    assert copy.read_bytes() == source.read_bytes()


def test_keys_of_a_bucket_are_names(
    tmp_path: Path, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also below a prefix that looks like a pattern or has a meaning in other URLs."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    bucket = new_bucket(s3_environment)
    names = ["*.parquet", "a b.parquet", "back\\slash.parquet", "p?rt.parquet", "part1.parquet", "part[1].parquet"]
    store = open_store(f"s3://{bucket}/feed[12]/videoId=all#2?/exports")
    other = open_store(f"s3://{bucket}/feed1/videoId=all#2?/exports")
    for number, name in enumerate(names):
        source = write_day(tmp_path / name, "2026-03-01", [row(f"u{number}", "v")])
        store.upload(source, f"2026-03-01/{name}")
        other.upload(source, f"2026-03-01/other-{name}")
    chosen = choose_window(store, last=None, length=30, marker_required=False)
    assert chosen.keys == [f"2026-03-01/{name}" for name in names]
    copies = local_copies(store, chosen.keys, tmp_path / "copies")
    assert [found[0] for found in read_rows(copies, INTERACTIONS)] == [f"u{number}" for number in range(len(names))]
