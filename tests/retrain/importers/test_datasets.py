"""Data in public layouts becomes exports by day."""

import gzip
import hashlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.data.exports import MARKER, list_days
from retrain.errors import RunError
from retrain.importers.datasets import RECORD, Imported, import_data
from retrain.importers.layouts import Columns, find_layout, plain_file
from servicekit.storage.object_store import FileStore

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
    done = imported(movie_lens, tmp_path / "data", max_left_out=0.7)
    assert done.broken == {"value": 1, "timestamp": 2, "user_id": 1, "video_id": 1, "line": 2}
    assert done.interactions == 4


def test_a_catalogue_without_a_row_that_can_be_used_is_refused(movie_lens: Path, tmp_path: Path) -> None:
    films = movie_lens / "ml-latest" / "movies.csv"
    csv_of(films, "movieId,title,genres", ",Nemo,Drama", '"", Fan,Drama')
    with pytest.raises(RunError, match=r"movies.csv holds no row that can be used; left out: video_id 2"):
        imported(movie_lens, tmp_path / "data")
    assert imported(movie_lens, tmp_path / "data", max_left_out=1.0).catalogue_left_out.counts == {"video_id": 2}


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
    import_data(plain_file(path, PLAIN, ",", kinds={}, kind="watch"), tmp_path / "out")
    assert rows(tmp_path / "out") == [("u", "v", "watch", 0, "2013-03-01T12:00:00.000Z")]


def test_kinds_are_renamed_and_unknown_ones_counted(tmp_path: Path) -> None:
    lines = ["u;v;view;1500", "u;v;purchase;", "u;v;refund;"]
    path = csv_of(tmp_path / "a.csv", "who;what;event;ms;when", *(f"{line};{NOON}" for line in lines))
    columns = Columns(user="who", item="what", time="when", kind="event", watch_time="ms")
    layout = plain_file(path, columns, ";", kinds={"view": "watch", "purchase": "favorite"}, kind="like")
    done = import_data(layout, tmp_path / "out", max_left_out=0.4)
    assert done.broken == {"interaction_type": 1}
    assert done.left_out.told() == ["interaction_type 1 ('refund' 1)"]
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
    with pytest.raises(RunError, match=problem) as caught:
        plain_file(csv_of(tmp_path / "a.csv", head, f"u,v,{NOON}"), PLAIN, ",", kinds={}, kind="like")
    assert caught.value.is_input


def test_file_without_a_row_that_can_be_used(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "a.csv", "who,what,when", "u,v,never")
    with pytest.raises(RunError, match=r"a.csv holds no row that can be used; left out: timestamp 1 \('never' 1\)"):
        import_data(plain_file(path, PLAIN, ",", kinds={}, kind="like"), tmp_path / "out")
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
    with pytest.raises(RunError, match="is there already, and not of an import"):
        imported(movie_lens, tmp_path / "data")
    assert list((tmp_path / "data").rglob("*")) == [marker.parent.parent, marker.parent, marker]


def test_rows_do_not_depend_on_memory_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrain.importers.datasets.GROUP_ROWS", 1000)
    lines = (f"u{number % 977},v{number % 83},{NOON + number * 7919 % 9_000_000}" for number in range(200_000))
    path = csv_of(tmp_path / "a.csv", "who,what,when", *lines)
    layout = plain_file(path, PLAIN, ",", kinds={}, kind="like")
    import_data(layout, tmp_path / "one", threads=1)
    import_data(layout, tmp_path / "two", threads=2, memory="64MiB")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    times = [row[4] for row in rows(tmp_path / "one")]
    assert times == sorted(times)
    assert len(times) == 200_000


def test_folder_of_no_known_layout() -> None:
    assert find_layout(Path(__file__).parent) is None


def plain(path: Path, output: Path, columns: Columns = PLAIN, **options: Any) -> Imported:
    return import_data(plain_file(path, columns, ",", kinds={}, kind="like"), output, **options)


def test_numbers_that_are_none_are_no_ratings(tmp_path: Path) -> None:
    stars = ["5", "4", "1", "nan", "inf", "1e400", "-inf", "NaN", "1e31"]
    path = csv_of(tmp_path / "a.csv", "who,what,when,stars", *(f"u,v{one},{NOON},{one}" for one in stars))
    columns = Columns(user="who", item="what", time="when", value="stars")
    done = plain(path, tmp_path / "out", columns, max_left_out=0.7)
    assert (done.liked_from, done.kinds, done.broken) == (4.0, {"like": 2, "rating": 1}, {"value": 6})


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "-1e400", "1e300", "-1e300"])
def test_numbers_that_are_none_are_no_times_and_no_watch_times(tmp_path: Path, number: str) -> None:
    lines = [f"u,v,{NOON},1500", f"u,w,{NOON},{number}", f"u,x,{number},1"]
    path = csv_of(tmp_path / "a.csv", "who,what,when,ms", *lines)
    columns = Columns(user="who", item="what", time="when", watch_time="ms")
    done = plain(path, tmp_path / "out", columns, max_left_out=0.7)
    assert done.broken == {"timestamp": 1, "watch_time": 1}
    assert [row[3] for row in rows(tmp_path / "out")] == [1500]


def test_numbers_that_are_none_in_kuairand(tmp_path: Path) -> None:
    head = "user_id,video_id,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,play_time_ms"
    odd = [f"7,5,{NOON}000,1,1,0,0,0,0,9223372036854775807", "7,5,9223372036854775807,1,1,0,0,0,0,1"]
    csv_of(tmp_path / "log_standard_a.csv", head, f"7,5,{NOON}000,1,0,0,0,0,0,nan", *odd)
    csv_of(tmp_path / "video_features_basic_a.csv", "video_id,author_id,upload_dt,video_duration,tag", "5,3,,nan,")
    done = imported(tmp_path, tmp_path / "out", max_left_out=0.9)
    assert (done.kinds, done.broken) == ({"like": 1}, {"timestamp": 2, "watch_time": 2})
    assert videos(tmp_path / "out")[0]["durationMs"] is None


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize(
    "text",
    [
        f"who,what,when\r\nu,v,{NOON}\nu,w,{NOON}\n",
        f"who,what,when\nu,v,{NOON}\r\nu,w,{NOON}\r\n",
        f"who,what,when\ru,v,{NOON}\ru,w,{NOON}\r",
        f"\ufeffwho,what,when\r\n\r\nu,v,{NOON}\n\n\nu,w,{NOON}",
    ],
)
def test_lines_may_end_in_any_way(tmp_path: Path, name: str, text: str) -> None:
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    done = plain(tmp_path / name, tmp_path / "out")
    assert (done.interactions, done.left_out.read, done.broken) == (2, 2, {})


def test_a_quote_that_never_ends_is_told_with_all_that_it_takes(tmp_path: Path) -> None:
    lines = [f"u{number},v,{NOON}" for number in range(40)]
    lines[2] = f'u2,"v,{NOON}'
    path = csv_of(tmp_path / "a.csv", "who,what,when", *lines)
    with pytest.raises(RunError, match=r"a.csv: 38 of 40 rows would be left out, more than 0.01 of them") as caught:
        plain(path, tmp_path / "out")
    assert "line 38 (from line 4 on: a quoted value that does not end" in str(caught.value)
    assert not (tmp_path / "out" / "exports").exists()
    assert plain(path, tmp_path / "out", max_left_out=1.0).broken == {"line": 38}


def test_a_quote_that_ends_lines_later_is_told_with_these(tmp_path: Path) -> None:
    lines = [f"u{number},v,{NOON},t" for number in range(40)]
    lines[2], lines[9] = f'u2,"v,{NOON},t', f'u9,v",{NOON},t'
    path = csv_of(tmp_path / "a.csv", "who,what,when,title", *lines)
    done = plain(path, tmp_path / "out", max_left_out=0.5)
    assert (done.interactions, done.broken, done.left_out.within) == (32, {"video_id": 1, "line": 7}, 0)
    lines[2], lines[9] = f'u2,v,{NOON},"t', f'u9,v,{NOON},t"'
    done = plain(csv_of(path, "who,what,when,title", *lines), tmp_path / "out", max_left_out=0.5)
    assert (done.interactions, done.broken, done.left_out.within) == (33, {}, 7)


def test_lines_that_are_not_utf8_or_too_short_are_named(tmp_path: Path) -> None:
    text = f"who,what,when\nu,v,{NOON}\nu,w,{NOON}\n".encode() + b"u,\xff,1\nu\n"
    (tmp_path / "a.csv").write_bytes(text)
    done = plain(tmp_path / "a.csv", tmp_path / "out", max_left_out=0.5)
    assert done.broken == {"line": 2}
    assert done.left_out.told()[0].startswith("line 2 (from line 4 on: not UTF-8: u,")


def test_unknown_words_are_listed_by_their_number(tmp_path: Path) -> None:
    words = ["refund"] * 3 + ["Like"] * 2 + ["", "watch", "watch", "watch", "watch"]
    path = csv_of(tmp_path / "a.csv", "who,what,when,event", *(f"u,v,{NOON + 1},{word}" for word in words))
    columns = Columns(user="who", item="what", time="when", kind="event")
    with pytest.raises(RunError, match="6 of 10 rows would be left out") as caught:
        plain(path, tmp_path / "out", columns)
    assert "interaction_type 6 ('refund' 3, 'Like' 2, empty 1)" in str(caught.value)


def test_times_without_a_zone_are_of_the_zone_that_is_told(tmp_path: Path) -> None:
    texts = [
        "2013-03-01 12:00:00",
        "2013-07-01T12:00:00",
        "2013-03-01T12:00:00Z",
        "2013-03-01T12:00:00+01:00",
        f"{NOON}",
    ]
    path = csv_of(tmp_path / "a.csv", "who,what,when", *(f"u{number},v,{one}" for number, one in enumerate(texts)))
    plain(path, tmp_path / "utc")
    plain(path, tmp_path / "paris", zone="Europe/Paris")
    hours = [{row[0]: row[4][5:13] for row in rows(tmp_path / zone)} for zone in ("utc", "paris")]
    assert hours[0] == {"u0": "03-01T12", "u1": "07-01T12", "u2": "03-01T12", "u3": "03-01T11", "u4": "03-01T12"}
    assert hours[1] == hours[0] | {"u0": "03-01T11", "u1": "07-01T10"}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
def test_parquet_with_native_times_and_whole_identifiers(tmp_path: Path, zone: str) -> None:
    noon = datetime(2013, 3, 1, 12, tzinfo=UTC)
    table = pa.table(
        {
            "who": pa.array([1, 2, None], pa.uint64()),
            "what": pa.array([-7, 8, 9], pa.int32()),
            "when": pa.array([noon, noon, noon], pa.timestamp("ns", "UTC")),
            "local": pa.array([noon.replace(tzinfo=None)] * 3, pa.timestamp("us")),
            "stars": pa.array([5.0, float("nan"), 1.0], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "a[1].parquet")
    path = tmp_path / "a[1].parquet"
    columns = Columns(user="who", item="what", time="when", value="stars")
    done = plain(path, tmp_path / "out", columns, zone=zone, max_left_out=0.7)
    assert (done.layout, done.broken, done.liked_from) == ("parquet", {"user_id": 1, "value": 1}, 3.0)
    assert rows(tmp_path / "out") == [("1", "-7", "like", 0, "2013-03-01T12:00:00.000Z")]
    plain(path, tmp_path / "out", Columns(user="what", item="what", time="local"), zone=zone)
    assert {row[4][11:13] for row in rows(tmp_path / "out")} == {"12" if zone == "UTC" else "11"}


def test_parquet_without_a_column_or_with_fractions_for_identifiers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"who": [1.5], "what": ["v"], "when": [NOON]}), tmp_path / "a.parquet")
    with pytest.raises(RunError, match=r"a.parquet: column 'who' is DOUBLE, must be text or an integer \(1 rows\)"):
        plain(tmp_path / "a.parquet", tmp_path / "out")
    with pytest.raises(RunError, match=r"a.parquet: column 'time' is missing, it has \['who', 'what', 'when'\]"):
        plain(tmp_path / "a.parquet", tmp_path / "out", Columns(user="what", item="what", time="time"))


@pytest.mark.parametrize("folder", ["in[12]", "movieId=all", "w*", "q?", "back\\slash", "it's"])
def test_no_name_is_a_pattern_or_a_column(movie_lens: Path, tmp_path: Path, folder: str) -> None:
    source = movie_lens.rename(tmp_path / folder)
    output = tmp_path / "out" / ("plain" if set(folder) & set("?\\") else folder)
    done = imported(source, output)
    assert (done.interactions, done.users, done.videos) == (4, 3, 3)
    assert [video["videoId"] for video in videos(output)] == ["10", "11"]


@pytest.mark.parametrize("folder", ["q?", "back\\slash"])
def test_an_output_that_the_database_cannot_name_is_refused(movie_lens: Path, tmp_path: Path, folder: str) -> None:
    with pytest.raises(RunError, match="cannot be in the path of scratch files"):
        imported(movie_lens, tmp_path / folder)
    assert not (tmp_path / folder / "exports").exists()
