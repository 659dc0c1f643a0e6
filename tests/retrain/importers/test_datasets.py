"""Data in public layouts becomes exports by day."""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.data.exports import MARKER, list_days
from retrain.errors import RunError
from retrain.importers.datasets import RECORD, import_data
from retrain.importers.layouts import Columns, find_layout, plain_file
from servicekit.storage.object_store import FileStore
from tests.retrain.support.imported import NOON, PLAIN, csv_of, imported, plain, rows, videos


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
