"""Data in public layouts becomes exports by day."""

import gzip
import hashlib
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from retrain.exports import MARKER, list_days
from retrain.failure import RunFailure
from retrain.importing import RECORD, Imported, import_data
from retrain.layouts import Columns, find_layout, plain_csv
from servicekit.objectstore import FileStore

NOON = 1_362_139_200
"""2013-03-01T12:00:00Z in seconds."""


def imported(source: Path, output: Path, **options: Any) -> Imported:
    layout = find_layout(source)
    assert layout
    return import_data(layout, output, **options)


def rows(output: Path) -> list[tuple[Any, ...]]:
    """Return all interactions in the order of the files."""
    files = [output / "exports" / key for day in list_days(FileStore(output / "exports")) for key in day.keys]
    return [tuple(row.values()) for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def videos(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output / "videos.parquet").to_pylist()
    return found


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def movie_lens(tmp_path: Path) -> Path:
    folder = tmp_path / "ml" / "ml-latest"
    folder.mkdir(parents=True)
    ratings = [f"1,10,4.5,{NOON}", f"2,10,3.0,{NOON + 86400}", f"1,11,5.0,{NOON - 5}", f"3,12,3.5,{NOON + 9 * 86400}"]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings, ""]), encoding="utf-8")
    films = ['10,"Fan, The (1996)",Thriller|Drama', "11,Nemo,(no genres listed)"]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films, ""]), encoding="utf-8")
    return folder.parent


def test_ratings_from_the_median_on_are_likes_and_the_rest_is_seen(movie_lens: Path, tmp_path: Path) -> None:
    done = imported(movie_lens, tmp_path / "data")
    assert rows(tmp_path / "data") == [
        ("1", "11", "like", 0, "2013-03-01T11:59:55.000Z"),
        ("1", "10", "like", 0, "2013-03-01T12:00:00.000Z"),
        ("2", "10", "rating", 0, "2013-03-02T12:00:00.000Z"),
        ("3", "12", "rating", 0, "2013-03-10T12:00:00.000Z"),
    ]
    assert (done.liked_from, done.kinds, done.broken) == (4.0, {"like": 2, "rating": 2}, {})
    assert (done.first, done.last, done.days) == (date(2013, 3, 1), date(2013, 3, 10), 3)
    assert (done.users, done.videos) == (3, 3)
    assert all(day.marked for day in list_days(FileStore(tmp_path / "data" / "exports")))


def test_threshold_can_be_chosen(movie_lens: Path, tmp_path: Path) -> None:
    assert imported(movie_lens, tmp_path / "data", liked_from=3.0).kinds == {"like": 4}


def test_genres_become_tags_and_the_year_a_date(movie_lens: Path, tmp_path: Path) -> None:
    imported(movie_lens, tmp_path / "data")
    nothing = {"authorId": None, "durationMs": None}
    assert videos(tmp_path / "data") == [
        {"videoId": "10", "tags": ["Thriller", "Drama"], "uploadDate": "1996-01-01"} | nothing,
        {"videoId": "11", "tags": [], "uploadDate": None} | nothing,
    ]


def test_colons_and_latin_1_of_older_files(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(f"1::0074638::7::{NOON}\n2::0074638::9::{NOON}\n", encoding="utf-8")
    (tmp_path / "movies.dat").write_bytes("0074638::Amélie (2001)::Comedy|Romance\n".encode("latin-1"))
    assert imported(tmp_path, tmp_path / "data").liked_from == 8.0
    assert [row[:3] for row in rows(tmp_path / "data")] == [("1", "0074638", "rating"), ("2", "0074638", "like")]
    assert videos(tmp_path / "data")[0]["tags"] == ["Comedy", "Romance"]


def test_rows_that_cannot_be_used_are_counted_by_what_is_wrong(movie_lens: Path, tmp_path: Path) -> None:
    broken = [f"1,13,good,{NOON}", "1,14,4.0,yesterday", "1,15,4.0,99999999999999999999", f",16,4.0,{NOON}", "1,17"]
    with (movie_lens / "ml-latest" / "ratings.csv").open("a", encoding="utf-8") as file:
        file.write("\n".join([*broken, f"1,{'x' * 129},4.0,{NOON}", f"1,18,4.0,{NOON},more", ""]))
    done = imported(movie_lens, tmp_path / "data")
    assert done.broken == {"value": 1, "timestamp": 2, "user_id": 1, "video_id": 1, "line": 2}
    assert done.interactions == 4


def test_each_flag_of_kuairand_is_an_interaction(tmp_path: Path) -> None:
    head = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    head += "play_time_ms,duration_ms,tab"
    early = f"7,5,20130301,1200,{NOON}000,1,1,0,0,1,0,1,2500,9000,1"
    late = f"8,5,20130302,1200,{NOON + 86400}000,0,0,0,0,0,1,0,40,9000,1"
    data = tmp_path / "KuaiRand-Pure" / "data"
    data.mkdir(parents=True)
    for name, line in (("log_standard_4_08", early), ("log_standard_4_22", late), ("log_random_4_22", early)):
        (data / f"{name}.csv").write_text(f"{head}\n{line}\n", encoding="utf-8")
    (data / "video_features_basic_pure.csv").write_text(
        "video_id,author_id,video_type,upload_dt,video_duration,tag\n"
        '5,3,NORMAL,2013-02-01,9000.0,"12,4"\n6,,AD,2013-02-02,,\n',
        encoding="utf-8",
    )
    imported(tmp_path / "KuaiRand-Pure", tmp_path / "out")
    assert rows(tmp_path / "out") == [
        ("u7", "v5", "watch", 2500, "2013-03-01T12:00:00.000Z"),
        ("u7", "v5", "like", 0, "2013-03-01T12:00:02.500Z"),
        ("u7", "v5", "share", 0, "2013-03-01T12:00:02.500Z"),
        ("u8", "v5", "impression", 40, "2013-03-02T12:00:00.000Z"),
        ("u8", "v5", "hide", 0, "2013-03-02T12:00:00.040Z"),
    ]
    assert [tuple(video.values()) for video in videos(tmp_path / "out")] == [
        ("v5", "a3", ["t12", "t4"], 9000, "2013-02-01"),
        ("v6", None, [], None, "2013-02-02"),
    ]


def csv_of(path: Path, *lines: str) -> Path:
    text = "\n".join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


PLAIN = Columns(user="who", item="what", time="when")


@pytest.mark.parametrize(
    "when", ["2013-03-01T12:00:00Z", "2013-03-01 13:00:00+01:00", "1362139200", "1362139200000", "1362139200000000"]
)
def test_times_in_any_usual_form(tmp_path: Path, when: str) -> None:
    path = csv_of(tmp_path / "a.csv.gz", "what,who,when", f"v,u,{when}")
    import_data(plain_csv(path, PLAIN, ",", kinds={}, kind="watch"), tmp_path / "out")
    assert rows(tmp_path / "out") == [("u", "v", "watch", 0, "2013-03-01T12:00:00.000Z")]


def test_kinds_are_renamed_and_unknown_ones_counted(tmp_path: Path) -> None:
    lines = ["u;v;view;1500", "u;v;purchase;", "u;v;refund;"]
    path = csv_of(tmp_path / "a.csv", "who;what;event;ms;when", *(f"{line};{NOON}" for line in lines))
    columns = Columns(user="who", item="what", time="when", kind="event", watch_time="ms")
    layout = plain_csv(path, columns, ";", kinds={"view": "watch", "purchase": "favorite"}, kind="like")
    assert import_data(layout, tmp_path / "out").broken == {"interaction_type": 1}
    assert sorted(row[2:4] for row in rows(tmp_path / "out")) == [("favorite", 0), ("watch", 1500)]


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("who,what,time", "a.csv: column 'when' is missing, it has who, what, time"),
        ("who,who,when", "a.csv: names of columns are empty or repeated: who, who, when"),
        ("", "column 'who' is missing"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, head: str, problem: str) -> None:
    with pytest.raises(RunFailure, match=problem) as caught:
        plain_csv(csv_of(tmp_path / "a.csv", head, f"u,v,{NOON}"), PLAIN, ",", kinds={}, kind="like")
    assert caught.value.is_input


def test_file_without_a_row_that_can_be_used(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "a.csv", "who,what,when", "u,v,never")
    with pytest.raises(RunFailure, match=r"a.csv holds no row that can be used; left out: {'timestamp': 1}"):
        import_data(plain_csv(path, PLAIN, ",", kinds={}, kind="like"), tmp_path / "out")
    assert not (tmp_path / "out" / "exports").exists()


def test_import_repeated_gives_the_same_files_and_replaces_what_was_there(movie_lens: Path, tmp_path: Path) -> None:
    output = tmp_path / "data"
    imported(movie_lens, output)
    first = digests(output)
    imported(movie_lens, output)
    assert digests(output) == first
    csv_of(movie_lens / "ml-latest" / "ratings.csv", "userId,movieId,rating,timestamp", f"1,10,4.5,{NOON}")
    (movie_lens / "ml-latest" / "movies.csv").unlink()
    imported(movie_lens, output)
    assert sorted(digests(output)) == [
        "exports/2013-03-01/_SUCCESS",
        "exports/2013-03-01/interactions-0000.parquet",
        RECORD,
    ]


def test_exports_of_somebody_else_are_not_touched(movie_lens: Path, tmp_path: Path) -> None:
    marker = tmp_path / "data" / "exports" / "2026-01-01" / MARKER
    marker.parent.mkdir(parents=True)
    marker.touch()
    with pytest.raises(RunFailure, match="is there already, and not of an import"):
        imported(movie_lens, tmp_path / "data")
    assert list((tmp_path / "data").rglob("*")) == [marker.parent.parent, marker.parent, marker]


def test_rows_do_not_depend_on_memory_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrain.importing.GROUP_ROWS", 1000)
    lines = (f"u{number % 977},v{number % 83},{NOON + number * 7919 % 9_000_000}" for number in range(200_000))
    path = csv_of(tmp_path / "a.csv", "who,what,when", *lines)
    layout = plain_csv(path, PLAIN, ",", kinds={}, kind="like")
    import_data(layout, tmp_path / "one", threads=1)
    import_data(layout, tmp_path / "two", threads=2, memory="64MiB")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    times = [row[4] for row in rows(tmp_path / "one")]
    assert times == sorted(times)
    assert len(times) == 200_000


def test_folder_of_no_known_layout() -> None:
    assert find_layout(Path(__file__).parent) is None
