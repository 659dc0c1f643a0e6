"""Runs whose S3 server is slow, errs, breaks connections off or is silent; the live model is never harmed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from structlog.testing import capture_logs

from bridge.postgres.migrate import migrate
from modelstore.registry import Registry
from retrain.errors import Reason, RunError
from retrain.importers.simulation import Simulation, simulate
from retrain.publishing.publish import live_version
from retrain.run_log.store import FileRuns, PostgresRuns
from retrain.scheduling.single_run import run_once
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import FileStore, S3Store, open_store
from tests.retrain.support.command import hurried, retrain
from tests.retrain.support.feeds import due_day
from tests.retrain.support.processes import running
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for
from tests.support.s3 import new_bucket
from tests.support.s3_faults import Fault, Faults, Kind, faulty

MakeSettings: TypeAlias = Callable[..., RetrainSettings]

EXPORT: Final = "2026-03-0./interactions-0000.parquet"
FILE: Final = "user_factors.npy"
MANIFEST: Final = "[0-9a-f]/manifest.json"
POINTER: Final = "current.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Exports and a live model of the days before the last one, in a bucket behind the proxy."""

    settings: RetrainSettings
    faults: Faults
    environment: dict[str, str]
    """That leads a process there."""

    def run(self, *planned: Fault) -> None:
        """Run on all days while this goes wrong."""
        self.faults.planned, self.faults.happened = [*planned], []
        with capture_logs():
            run_once(self.settings, last=None, dry_run=False, again=False, force=False)

    def live(self) -> str | None:
        self.faults.planned = []
        return live_version(Registry(open_store(self.settings.model_store_url)))


def copy(folder: Path, url: str) -> None:
    """Bring a folder's files to a store."""
    store = open_store(url)
    for key in FileStore(folder).list(""):
        store.upload(folder / key, key)


@pytest.fixture
def site(
    s3_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    settings: MakeSettings,
    feed: Path,
    trained: Path,
) -> Iterator[Site]:
    # As patient as tests are.
    defaults = S3Store.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "read_s", 0.5)
    monkeypatch.setitem(defaults, "attempts", 2)
    with faulty(s3_environment) as (way, faults):
        for name, value in way.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{new_bucket(s3_environment)}"
        where = {"interactions_url": f"{url}/exports", "model_store_url": f"{url}/models"}
        copy(feed / "exports", where["interactions_url"])
        copy(trained / "models", where["model_store_url"])
        yield Site(
            settings=settings(catalogue_url=None, **where),
            faults=faults,
            environment=way | {name.upper(): value for name, value in where.items()},
        )


def test_a_run_survives_what_passes(site: Site) -> None:
    """Reads are slow, and each kind of request fails once: in part, after it was done, or before."""
    before = site.live()
    site.faults.bytes_per_s = 500_000
    passing = [
        Fault(kind=kind, method=method, path=path, times=1)
        for method, path, kinds in (
            ("GET", EXPORT, (Kind.SLOW_DOWN, Kind.STALL, Kind.CUT)),
            ("GET", MANIFEST, (Kind.CUT,)),
            ("PUT", FILE, (Kind.LOST,)),
            ("PUT", "videos.npy", (Kind.RESET,)),
            ("PUT", MANIFEST, (Kind.LOST,)),
            ("PUT", POINTER, (Kind.LOST,)),
        )
        for kind in kinds
    ]
    site.run(*passing)
    assert [fault.times for fault in passing] == [0] * len(passing)
    assert site.live() != before


LASTING: Final = (
    (Kind.STALL, "GET", EXPORT, "Read timeout"),
    (Kind.SLOW_DOWN, "GET", EXPORT, "reduce your request rate"),
    (Kind.CUT, "GET", EXPORT, "reset by peer"),
    (Kind.RESET, "PUT", FILE, "Connection was closed"),
    (Kind.SLOW_DOWN, "PUT", POINTER, "reduce your request rate"),
    (Kind.RESET, "PUT", POINTER, "Connection was closed"),
)


def test_a_run_ends_with_what_lasts_and_a_later_one_succeeds(site: Site) -> None:
    """Each run gets further than the one before, up to the pointer's move."""
    before = site.live()
    for kind, method, path, said in LASTING:
        with pytest.raises(RunError, match=f"^s3://.*: .*{said}") as caught:
            site.run(Fault(kind=kind, method=method, path=path))
        assert caught.value.reason is Reason.STORE
        assert site.live() == before
    site.run()
    assert site.live() != before


def test_a_run_that_is_killed_while_it_publishes_is_finished_by_the_next(
    site: Site, copied: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL in the middle of the upload, and again when the pointer has moved and the run does not know yet."""
    before = site.live()
    environment = copied | site.environment
    for path in (FILE, POINTER):
        site.faults.planned = [Fault(kind=Kind.SILENCE, method="PUT", path=path)]
        site.faults.happened = []
        with running(**environment) as process:
            wait_for(lambda: site.faults.happened or process.poll() is not None, timeout_s=60)
            assert process.poll() is None
        assert (site.live() == before) == (path == FILE)
    published = site.live()
    done = retrain("run", **environment)
    assert done.returncode == 0, done.stderr
    assert f"{published}: already live" in done.stdout
    assert Registry(open_store(site.settings.model_store_url)).versions() == [published, before]
    assert [row.state for row in FileRuns(tmp_path / "work" / "runs").recent(9)] == ["succeeded", "failed", "failed"]


def test_a_run_that_a_silent_server_holds_up_is_ended_by_the_schedule_and_told_of(
    s3_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    postgres_url: str,
    dogstatsd: DogStatsdServer,
) -> None:
    """The download would be given up after 100 s, and tried for each file."""
    migrate(postgres_url)
    day = due_day()
    simulate(Simulation(users=60, videos=40, days=1, views=5, seed=1, last=day), tmp_path)
    with faulty(s3_environment) as (way, faults):
        for name, value in way.items():
            monkeypatch.setenv(name, value)
        bucket = new_bucket(s3_environment)
        copy(tmp_path / "exports", f"s3://{bucket}/exports")
        faults.planned = [Fault(kind=Kind.SILENCE, method="GET", path="interactions-0000.parquet")]
        environment = {
            "INTERACTIONS_URL": f"s3://{bucket}/exports",
            "MODEL_STORE_URL": f"s3://{bucket}/models",
            "RETRAIN_WORK_DIR": str(tmp_path / "work"),
            "DATABASE_URL": postgres_url,
            "SCHEDULE_LIMIT_S": "5",
            "DD_AGENT_HOST": dogstatsd.host,
            "DD_DOGSTATSD_PORT": str(dogstatsd.port),
        }
        done = hurried("schedule", "--once", **environment, **way)
    assert done.returncode == 1, done.stderr
    (row,) = PostgresRuns(postgres_url).recent(9)
    assert (row.run_date, row.state, row.reason, row.message) == (day, "failed", "hung", "ended after 5 s")
    dogstatsd.wait("feed.lightfm.retrain.failure", "reason:hung")
