"""`python -m retrain` as people and schedulers run it."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from modelstore.artefact import read
from modelstore.registry import Registry
from retrain.data.exports import MARKER
from servicekit.storage.object_store import FileStore, open_store
from tests.retrain.support.command import refusal, retrain, where
from tests.retrain.support.feeds import row, write_day
from tests.support.dogstatsd import DogStatsdServer
from tests.support.s3 import new_bucket

pytestmark = pytest.mark.process


def test_help_explains_commands_and_environment() -> None:
    done = retrain("--help")
    assert done.returncode == 0
    for word in ("run", "simulate", "INTERACTIONS_URL", "MODEL_STORE_URL", "RETRAIN_EPOCHS", "(required)"):
        assert word in done.stdout


@pytest.mark.parametrize("command", [(), ("run",)])
def test_missing_environment_is_one_line_for_each_variable(command: tuple[str, ...]) -> None:
    done = retrain(*command)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: MODEL_STORE_URL: Field required",
        "error: INTERACTIONS_URL: Field required",
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("INTERACTIONS_URL", "exports", "neither file:///folder nor s3://bucket/prefix"),
        ("RETRAIN_EPOCHS", "0", "greater than or equal to 1"),
        ("RETRAIN_MEMORY", "lots", "no amount of memory"),
        ("RETRAIN_MEMORY", "1KB", "from 16MiB"),
        ("RETRAIN_LEARNING_RATE", "inf", "finite"),
        ("RETRAIN_WORK_DIR", "/etc/hostname", "no folder"),
        ("DATABASE_URL", "mysql://u:secret@h/d", "not a postgresql://"),
        ("EXPORT_MARKER", "perhaps", "'auto', 'required' or 'ignored'"),
    ],
)
def test_bad_environment_is_named(tmp_path: Path, name: str, value: str, problem: str) -> None:
    line = refusal(retrain(**(where(tmp_path, tmp_path) | {name: value})))
    assert line.startswith(f"{name}: ")
    assert problem in line


def test_simulated_feed_is_trained_on_once_and_reported(tmp_path: Path, dogstatsd: DogStatsdServer) -> None:
    feed = tmp_path / "feed"
    simulated = retrain("simulate", "--output", str(feed), "--users", "150", "--videos", "80", "--days", "3")
    assert simulated.returncode == 0, simulated.stderr
    assert simulated.stdout.startswith("Simulated ")
    yesterday = str((datetime.now(UTC) - timedelta(days=1)).date())
    assert (feed / "exports" / yesterday / MARKER).exists()
    environment = where(tmp_path, feed / "exports") | {
        "CATALOGUE_URL": feed.as_uri(),
        "DD_AGENT_HOST": dogstatsd.host,
        "DD_DOGSTATSD_PORT": str(dogstatsd.port),
    }
    planned = retrain("run", "--dry-run", **environment)
    assert planned.returncode == 0, planned.stderr
    assert "Plan" in planned.stdout
    assert not (tmp_path / "models").exists()
    assert not dogstatsd.lines
    done = retrain(**environment)
    assert done.returncode == 0, done.stderr
    for word in (
        "Plan",
        "rows read",
        "LightFM + popularity prior",
        "decayed popularity",
        "recall@20",
        "NDCG@20",
        ": live",
    ):
        assert word in done.stdout
    assert '"epoch": 2' in done.stderr
    dogstatsd.wait("feed.lightfm.retrain.success", "service:retrain")
    again = retrain("run", **environment)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    assert ": already live" in again.stdout
    assert sorted(path.name for path in (tmp_path / "work").iterdir() if path.name != "fits") == [
        "retrain.lock",
        "runs",
    ]
    status = retrain("status", **environment)
    assert [line.split()[3] for line in status.stdout.splitlines()[1:]] == ["succeeded", "succeeded"]


def test_wrong_column(tmp_path: Path, dogstatsd: DogStatsdServer) -> None:
    path = write_day(tmp_path / "exports", "2026-03-01", [row("u", "v")])
    pq.write_table(pq.read_table(path).drop_columns(["watchTime"]), path)
    done = retrain(
        "run",
        **where(tmp_path, tmp_path / "exports"),
        DD_AGENT_HOST=dogstatsd.host,
        DD_DOGSTATSD_PORT=str(dogstatsd.port),
    )
    assert refusal(done).startswith("2026-03-01/interactions-0000.parquet: column 'watchTime' is missing")
    assert not (tmp_path / "models").exists()
    dogstatsd.wait("feed.lightfm.retrain.failure", "reason:schema")
    assert not dogstatsd.packets("feed.lightfm.retrain.success")


def test_truncated_file_leaves_the_live_model_alone(copied: dict[str, str], tmp_path: Path, feed: Path) -> None:
    exports = tmp_path / "exports"
    shutil.copytree(feed / "exports", exports)
    (path,) = (exports / "2026-03-04").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    before = FileStore(tmp_path / "models").read("current.json")
    done = retrain("run", **copied | {"INTERACTIONS_URL": exports.as_uri()})
    assert refusal(done).startswith(f"2026-03-04/{path.name} is not a parquet file")
    assert FileStore(tmp_path / "models").read("current.json") == before


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    line = refusal(retrain("run", **where(tmp_path, tmp_path / "exports")))
    assert line == f"{(tmp_path / 'exports').as_uri()} holds no YYYY-MM-DD/*.parquet"


def test_day_that_is_not_a_date(tmp_path: Path) -> None:
    done = retrain("run", "--date", "soon", **where(tmp_path, tmp_path))
    assert done.returncode == 2
    assert "invalid" in done.stderr.splitlines()[-1]


def test_exports_and_models_in_a_bucket(
    tmp_path: Path, feed: Path, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day without its marker is left out; the model that is served from the bucket is whole."""
    bucket = new_bucket(s3_environment)
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}")
    for path in sorted(feed.rglob("*")):
        if path.is_file() and path != feed / "exports" / "2026-03-04" / MARKER:
            store.upload(path, str(path.relative_to(feed)))
    environment = s3_environment | {
        "INTERACTIONS_URL": f"s3://{bucket}/exports",
        "CATALOGUE_URL": f"s3://{bucket}",
        "MODEL_STORE_URL": f"s3://{bucket}/models",
        "RETRAIN_WORK_DIR": str(tmp_path),
        "RETRAIN_FACTORS": "16",
        "RETRAIN_EPOCHS": "8",
    }
    done = retrain("run", **environment)
    assert done.returncode == 0, done.stderr
    assert "2026-03-04 (left out)" in done.stdout
    registry = Registry(open_store(f"s3://{bucket}/models"))
    current = registry.current()
    assert current
    model = read(registry.fetch(current[0], tmp_path / "cache"))
    assert model.manifest.data_until == datetime(2026, 3, 4, tzinfo=UTC)
    assert len(model.users) == 400
    refused = retrain("run", "--date", "2026-03-04", **environment)
    assert refusal(refused) == f"s3://{bucket}/exports/2026-03-04 is not complete: {MARKER} is missing"


def test_bucket_that_does_not_exist_is_one_line(tmp_path: Path, s3_environment: dict[str, str]) -> None:
    environment = where(tmp_path, tmp_path) | s3_environment | {"INTERACTIONS_URL": "s3://no-such-bucket/exports"}
    done = retrain("run", **environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "NoSuchBucket" in line
