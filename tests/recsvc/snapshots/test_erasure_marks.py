"""A mark goes when nothing that is kept can hold the user, and not a day before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelstore.registry import Registry
from recsvc.live_state.batch import NEVER
from recsvc.live_state.limits import drop_marks
from recsvc.snapshots.erasure_marks import oldest_needed_ms
from servicekit.storage.object_store import FileStore
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.live_states import NOW_MS, live_state, row
from tests.recsvc.support.models import publish, random_model

DAY_MS = 86_400_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
RETENTION_MS = 7 * DAY_MS


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def train(models: Path, *days_ago: int) -> None:
    """Keep models that were trained so many days ago."""
    for days in days_ago:
        model = random_model(version=f"model-{days:03d}")
        manifest = model.manifest.model_copy(update={"trained_at": NOW - timedelta(days=days)})
        publish(models, replace(model, manifest=manifest))


def needed_days(models: Path, *snapshots_days_ago: int) -> float:
    """Return the age from which on marks are not needed."""
    names = [f"{NOW_MS - days * DAY_MS:016d}-0123456789abcdef" for days in snapshots_days_ago]
    registry = Registry(FileStore(models))
    return (NOW_MS - oldest_needed_ms(registry, names, now_ms=NOW_MS, retention_ms=RETENTION_MS)) / DAY_MS


def test_without_a_model_the_topic_decides(models: Path) -> None:
    assert needed_days(models) == 14


@pytest.mark.parametrize(("trained", "days"), [((1, 2), 14), ((1, 7), 14), ((1, 8), 15), ((30, 1, 2), 37)])
def test_the_oldest_model_that_is_kept_decides(models: Path, trained: tuple[int, ...], days: int) -> None:
    train(models, *trained)
    assert needed_days(models) == days


def test_an_old_snapshot_decides(models: Path) -> None:
    train(models, 1)
    assert needed_days(models, 0, 10) == 17


def test_a_model_that_nobody_can_read_keeps_all_marks(models: Path) -> None:
    train(models, 1, 2)
    (models / "model-002" / "manifest.json").write_text("{}")
    registry = Registry(FileStore(models))
    assert oldest_needed_ms(registry, [], now_ms=NOW_MS, retention_ms=RETENTION_MS) == NEVER


def test_marks_go_on_one_side_of_it_only(models: Path, tmp_path: Path) -> None:
    """Of models trained 1 and 30 days ago; then the older one is pruned."""
    train(models, 1, 30)
    ages = {"young": 1, "before the young model": 16, "before margin": 36, "before all": 38}
    marks = {user_fingerprint(user): NOW_MS - days * DAY_MS for user, days in ages.items()}
    live = live_state(tmp_path / "live", {"other": [row("v1")]})
    with live.writing() as batch:
        for user, days in ages.items():
            batch.forget(user_fingerprint(user), NOW_MS - days * DAY_MS, user_id=user)
    registry = Registry(FileStore(models))

    assert drop_marks(live, before_ms=oldest_needed_ms(registry, [], now_ms=NOW_MS, retention_ms=RETENTION_MS)) == 1
    assert {mark for mark, *_ in live.marks()} == marks.keys() - {user_fingerprint("before all")}

    (models / "model-030" / "manifest.json").unlink()
    assert drop_marks(live, before_ms=oldest_needed_ms(registry, [], now_ms=NOW_MS, retention_ms=RETENTION_MS)) == 2
    assert {mark for mark, *_ in live.marks()} == {user_fingerprint("young")}
