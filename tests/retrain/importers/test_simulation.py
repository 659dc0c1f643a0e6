"""The simulated feed is laid out as a real one, and is the same for the same seed."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.data.columns import INTERACTIONS, VIDEOS
from retrain.data.exports import MARKER, list_days
from retrain.importers.simulation import Simulation, simulate
from servicekit.storage.object_store import FileStore
from tests.retrain.support.feeds import check_columns
from tests.retrain.support.simulated import SIMULATION


def test_layout_is_that_of_real_exports(feed: Path) -> None:
    days = list_days(FileStore(feed / "exports"))
    assert [(str(day.day), len(day.keys), day.marked) for day in days] == [
        (f"2026-03-0{number}", 1, True) for number in (1, 2, 3, 4)
    ]
    for day in days:
        check_columns(feed / "exports" / day.keys[0], INTERACTIONS)
    check_columns(feed / "videos.parquet", VIDEOS)
    assert pq.read_metadata(feed / "videos.parquet").num_rows == SIMULATION.videos
    assert pq.read_metadata(feed / "users.parquet").num_rows == SIMULATION.users


def read_all(feed: Path) -> Any:
    return pa.concat_tables(pq.read_table(path) for path in sorted(feed.glob("exports/*/*.parquet")))


def test_identifiers_say_that_they_are_simulated(feed: Path) -> None:
    table = read_all(feed)
    assert {one[:5] for one in table["userId"].to_pylist()} == {"sim-u"}
    assert {one[:5] for one in table["videoId"].to_pylist()} == {"sim-v"}


def test_times_are_of_their_day_and_in_order(feed: Path) -> None:
    for path in feed.glob("exports/*/*.parquet"):
        times = pq.read_table(path)["timestamp"].to_pylist()
        assert {time[:10] for time in times} == {path.parent.name}
        assert times == sorted(times)


def test_every_exposure_is_a_watch_or_an_impression_and_some_are_liked(feed: Path) -> None:
    kinds = Counter(read_all(feed)["interactionType"].to_pylist())
    assert set(kinds) == {"watch", "impression", "like"}
    exposures = SIMULATION.users * SIMULATION.days * SIMULATION.views
    assert kinds["watch"] + kinds["impression"] == pytest.approx(exposures, rel=0.05)
    assert 0 < kinds["like"] < kinds["watch"]


def test_same_seed_gives_the_same_feed(tmp_path: Path) -> None:
    small = Simulation(users=50, videos=20, days=2, views=5, seed=1, last=date(2026, 3, 4))
    counts = [simulate(small, tmp_path / name) for name in ("a", "b")]
    assert counts[0] == counts[1]
    for path in sorted((tmp_path / "a").rglob("*.parquet")):
        assert pq.read_table(path).equals(pq.read_table(tmp_path / "b" / path.relative_to(tmp_path / "a")))
    other = Simulation(users=50, videos=20, days=2, views=5, seed=2, last=date(2026, 3, 4))
    simulate(other, tmp_path / "c")
    name = "exports/2026-03-04/interactions-0000.parquet"
    assert not pq.read_table(tmp_path / "a" / name).equals(pq.read_table(tmp_path / "c" / name))


def test_tiny_feeds_work(tmp_path: Path) -> None:
    simulate(Simulation(users=1, videos=1, days=1, views=1, seed=1, last=date(2026, 3, 4)), tmp_path)
    assert (tmp_path / "exports" / "2026-03-04" / MARKER).exists()
