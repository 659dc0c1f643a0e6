"""`python -m retrain import` as newcomers run it, up to a trained model."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq
import pytest

from modelstore.registry import Registry
from retrain.__main__ import main
from servicekit.storage.object_store import FileStore

ROOT: Final = Path(__file__).parents[3]


def retrain(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "retrain", *arguments],
        cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip


def trained_metrics(data: Path, models: Path, *flags: str, **environment: str) -> dict[str, float]:
    """Train on an imported folder and return the published model's metrics."""
    done = retrain(
        "run",
        *flags,
        INTERACTIONS_URL=(data / "exports").as_uri(),
        CATALOGUE_URL=data.as_uri(),
        MODEL_STORE_URL=models.as_uri(),
        RETRAIN_THREADS="1",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    registry = Registry(FileStore(models))
    return registry.manifest(registry.versions()[0]).metrics


@pytest.mark.process
def test_csv_of_a_feed_is_imported_as_the_feed_itself(feed: Path, tmp_path: Path) -> None:
    """What came from the exports of a feed by way of CSV are these exports again."""
    lines, exported = tmp_path / "feed.csv", str(feed / "exports" / "*" / "*.parquet")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (FROM read_parquet('{exported}') ORDER BY hash(\"userId\")) TO '{lines}' (FORMAT csv)"
        )
    output = tmp_path / "data"
    done = retrain(
        "import", str(lines), "--user", "userId", "--item", "videoId", "--time", "timestamp", "--kind",
        "interactionType", "--watch-time", "watchTime", "--output", str(output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "left out      nothing" in done.stdout
    assert "RETRAIN_WINDOW_DAYS=4 make run DATA=" in done.stdout
    for day in ("2026-03-01", "2026-03-04"):
        name = f"exports/{day}/interactions-0000.parquet"
        ours, theirs = (
            pq.ParquetFile(folder / name).read().sort_by([(column, "ascending") for column in ("timestamp", "userId")])
            for folder in (output, feed)
        )
        assert ours.equals(theirs)


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nothing", "there is no "),
        ("folder", " holds no ratings.csv, ratings.dat or log_standard_*.csv"),
        ("plays.csv", "plays.csv is a plain file: --user, --time must name its columns"),
    ],
)
def test_what_cannot_be_imported_is_one_line(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plays.csv").write_text("track\n1\n", encoding="utf-8")
    done = retrain("import", str(tmp_path / name), "--output", str(tmp_path / "data"), "--item", "track")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--memory", "lots"),
        ("--delimiter", "::"),
        ("--rename", "view"),
        ("--liked-from", "nan"),
        ("--timezone", "Mars"),
        ("--max-left-out", "2"),
    ],
)
def test_a_wrong_option_is_named(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["import", "plays.csv", "--output", "data", option, value])
    assert caught.value.code == 2
    assert f"error: argument {option}: '{value}' is no" in capsys.readouterr().err


@pytest.mark.process
def test_what_is_left_out_is_told_and_too_much_of_it_is_an_error(tmp_path: Path) -> None:
    lines = [f"u{number},v,2013-03-01 12:00:00,{'like' if number % 2 else 'Like'}" for number in range(10)]
    (tmp_path / "a.csv").write_text("\n".join(["who,what,when,event", *lines, ""]), encoding="utf-8")
    columns = ("--user", "who", "--item", "what", "--time", "when", "--kind", "event")
    command = ("import", str(tmp_path / "a.csv"), *columns, "--output", str(tmp_path / "data"))
    done = retrain(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: a.csv: 5 of 10 rows would be left out, more than 0.01 of them (--max-left-out): "
        "interaction_type 5 ('Like' 5)\n"
    )
    done = retrain(*command, "--max-left-out", "0.5", "--timezone", "Europe/Paris")
    assert done.returncode == 0, done.stderr
    assert "  left out      interaction_type 5 ('Like' 5) of 10 rows\n" in done.stdout
    assert "  times         of Europe/Paris where they name no zone\n" in done.stdout
    assert retrain(*command, "--rename", "Like=like").returncode == 0


@pytest.mark.process
def test_movie_tweetings_give_a_model_no_worse_than_popularity(shared_data: Path, tmp_path: Path) -> None:
    """Film ratings of one site over half a year are mostly of what is new there, so popularity is hard to beat.

    Whether it is beaten clearly enough for the gate hangs on the seed, so it is forced, and judged here.
    """
    data = tmp_path / "data"
    done = retrain("import", str(shared_data / "movietweetings"), "--output", str(data))
    assert done.returncode == 0, done.stderr
    days = re.search(r"RETRAIN_WINDOW_DAYS=(\d+)", done.stdout)
    assert days
    assert days[1] == "186"
    metrics = trained_metrics(
        data, tmp_path / "models", "--force", RETRAIN_WINDOW_DAYS=days[1], RETRAIN_FACTORS="16", RETRAIN_EPOCHS="6"
    )
    assert metrics["evaluation.users"] > 300
    assert metrics["lightfm_prior.ndcg@20"] > 0.95 * metrics["popularity.ndcg@20"] > 0.1
    assert metrics["lightfm_prior.coverage@20"] > metrics["popularity.coverage@20"]
