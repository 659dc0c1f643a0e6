"""Runs on a last day that is not what it should be, as a scheduler starts them."""

import shutil
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pytest

from modelstore.registry import Registry
from servicekit.storage.object_store import FileStore
from tests.retrain.support.command import retrain, where
from tests.retrain.support.processes import LEARNING
from tests.support.dogstatsd import DogStatsdServer

LAST: Final = "2026-03-04"
SHUFFLED: Final = """
    WITH ids AS (SELECT {id} AS id, row_number() OVER (ORDER BY {id}) AS place FROM today GROUP BY {id}),
    others AS (SELECT id, row_number() OVER (ORDER BY hash(id)) AS place FROM ids)
    SELECT today.* REPLACE (others.id AS {id})
    FROM today JOIN ids ON ids.id = today.{id} JOIN others USING (place)
"""


class Night(NamedTuple):
    folder: Path
    environment: dict[str, str]
    """Of runs on it."""
    feed: Path
    """The undamaged exports."""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, feed: Path, trained: Path) -> Night:
    """A live model of the days before the last one, and exports that tests damage."""
    folder = tmp_path_factory.mktemp("night")
    shutil.copytree(trained / "models", folder / "models")
    for day in (feed / "exports").iterdir():
        (folder / "exports" / day.name).mkdir(parents=True)
        for file in day.glob("*.parquet"):
            (folder / "exports" / day.name / file.name).symlink_to(file)
    return Night(folder, where(folder, folder / "exports") | LEARNING, feed)


def damage(feed: Path, exports: Path, query: str) -> None:
    """Write the last day anew: a query on its rows, `today`."""
    (source,) = (feed / "exports" / LAST).glob("*.parquet")
    (target,) = (exports / LAST).glob("*.parquet")
    target.unlink()
    with duckdb.connect() as engine:
        engine.execute(f"CREATE VIEW today AS SELECT * FROM read_parquet('{source}')")  # noqa: S608  # of the test's own
        engine.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)")


def pointer(folder: Path) -> bytes:
    return FileStore(folder / "models").read("current.json").data


@pytest.mark.parametrize(
    ("query", "reason", "words"),
    [
        ("SELECT * REPLACE ('sim-v0000001' AS \"videoId\") FROM today", "gate", "are with one video"),
        ('SELECT * FROM today WHERE hash("timestamp", "userId") % 2 = 0', "gate", "of the median of"),
        (SHUFFLED.format(id='"userId"'), "quality", "not better than popularity"),
        (SHUFFLED.format(id='"videoId"'), "quality", "not better than popularity"),
    ],
    ids=["all on one video", "half of the volume", "shuffled users", "shuffled videos"],
)
def test_a_poisoned_day_leaves_the_live_model(
    night: Night,
    dogstatsd: DogStatsdServer,
    query: str,
    reason: str,
    words: str,
) -> None:
    folder, environment, feed = night
    before, versions = pointer(folder), Registry(FileStore(folder / "models")).versions()
    damage(feed, folder / "exports", query)

    done = retrain("run", **environment, DD_AGENT_HOST=dogstatsd.host, DD_DOGSTATSD_PORT=str(dogstatsd.port))

    assert done.returncode == 3, done.stderr
    assert "going on from" in done.stdout
    assert words in done.stderr.splitlines()[-1]
    assert ("fit.refused" in done.stderr) == (reason == "quality"), "a warm start and a full fit are both refused"
    assert (pointer(folder), Registry(FileStore(folder / "models")).versions()) == (before, versions)
    dogstatsd.wait("feed.lightfm.retrain.failure", f"reason:{reason}")
    assert not dogstatsd.packets("feed.lightfm.retrain.success")


def test_a_worse_model_goes_live_by_force_only(night: Night) -> None:
    """The same day is refused with a fit that hardly learns, and taken with the usual one."""
    folder, environment, feed = night
    damage(feed, folder / "exports", "SELECT * FROM today")
    before = pointer(folder)
    worse = environment | {"RETRAIN_EPOCHS": "1", "RETRAIN_LEARNING_RATE": "0.0001"}

    refused = retrain("run", **worse)
    assert refused.returncode == 3, refused.stderr
    assert "worse than the live model by more than 2%" in refused.stderr.splitlines()[-1]
    assert pointer(folder) == before

    done = retrain("run", **environment)
    assert done.returncode == 0, done.stderr
    live = pointer(folder)
    assert live != before

    forced = retrain("run", "--force", **worse)
    assert forced.returncode == 0, forced.stderr
    assert pointer(folder) != live
