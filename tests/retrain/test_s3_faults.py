"""Runs whose S3 server is slow, errs or breaks connections off; the live model is never harmed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from structlog.testing import capture_logs

from recsvc.registry import Registry
from retrain.failure import Reason, RunFailure
from retrain.job import run_job
from retrain.publish import live_version
from retrain.settings import RetrainSettings
from servicekit.objectstore import FileStore, S3Store, open_store
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

    def run(self, *planned: Fault) -> None:
        """Run on all days while this goes wrong."""
        self.faults.planned, self.faults.happened = [*planned], []
        with capture_logs():
            run_job(self.settings, last=None, dry_run=False, again=False, force=False)

    def live(self) -> str | None:
        self.faults.planned = []
        return live_version(Registry(open_store(self.settings.model_store_url)))


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
        for folder, name in ((feed / "exports", "exports"), (trained / "models", "models")):
            bucket = open_store(f"{url}/{name}")
            for key in FileStore(folder).list(""):
                bucket.upload(folder / key, key)
        made = settings(interactions_url=f"{url}/exports", catalogue_url=None, model_store_url=f"{url}/models")
        yield Site(settings=made, faults=faults)


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
    (Kind.SLOW_DOWN, "PUT", MANIFEST, "reduce your request rate"),
    (Kind.SLOW_DOWN, "PUT", POINTER, "reduce your request rate"),
    (Kind.RESET, "PUT", POINTER, "Connection was closed"),
)


def test_a_run_ends_with_what_lasts_and_a_later_one_succeeds(site: Site) -> None:
    """Each run gets further than the one before, up to the pointer's move."""
    before = site.live()
    for kind, method, path, said in LASTING:
        with pytest.raises(RunFailure, match=f"^s3://.*: .*{said}") as caught:
            site.run(Fault(kind=kind, method=method, path=path))
        assert caught.value.reason is Reason.STORE
        assert site.live() == before
    site.run()
    assert site.live() != before
