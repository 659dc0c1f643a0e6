"""What is wrong with a file is told with its line; nothing of it is trained on unseen."""

import gzip
from pathlib import Path

import pytest

from retrain.errors import RunError
from retrain.importers.datasets import import_data
from retrain.importers.layouts import Columns, plain_file
from tests.retrain.support.imported import NOON, PLAIN, csv_of, imported, plain, rows, videos


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
