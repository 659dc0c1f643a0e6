"""Models that were really trained with LightFM elsewhere, pickled, imported, and served."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from modelstore.registry import Registry
from recsvc.app import RecommendationServer
from retrain.importers.lightfm_model import Source, import_lightfm
from retrain.publishing.publish import Outcome
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import NoMetrics
from tests.recsvc.support.calls import Client
from tests.retrain.support.command import retrain
from tests.retrain.support.models import NOW
from tests.retrain.support.trained_elsewhere import ITEMS, USERS, Trained, dump, train
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb


def bring(folder: Path, content: Any, **files: Path) -> None:
    """Import what was pickled, with files beside it, and make it live."""
    source = Source(pickle=dump(folder / "model.pkl", content), **files)
    done = import_lightfm(source, Registry(FileStore(folder / "models")), trained_at=NOW, now=NOW, key=None)
    assert done.outcome is Outcome.LIVE


def assert_served_scores_are_lightfms(folder: Path, trained: Trained) -> None:
    """Ask a server of the store to score all items for all users."""
    server = RecommendationServer(
        FileStore(folder / "models"), folder / "cache", NoMetrics(), threads=2, poll_interval_s=60
    )
    with Client.to(server.start("127.0.0.1:0")) as client:
        for user in USERS:
            request = pb.ScoreVideosRequest(user_id=user, video_ids=[str(item) for item in ITEMS])
            reply = client.recommendations.ScoreVideos(request, timeout=10)
            assert reply.user_state == pb.USER_STATE_TRAINED
            assert all(score.known for score in reply.scores)
            np.testing.assert_allclose([score.score for score in reply.scores], trained.predict(user), atol=1e-5)
    server.stop(0)


@pytest.mark.process
@pytest.mark.parametrize("loss", ["warp", "bpr", "logistic"])
def test_a_model_pickled_with_its_dataset(tmp_path: Path, loss: str) -> None:
    trained = train(features=False, loss=loss)

    bring(tmp_path, (trained.model, trained.dataset))

    assert_served_scores_are_lightfms(tmp_path, trained)


@pytest.mark.process
@pytest.mark.parametrize("identity", [True, False])
def test_a_model_with_side_features(tmp_path: Path, identity: bool) -> None:  # noqa: FBT001  # a parameter of pytest
    """Beside the users and videos as features of themselves, or instead of them."""
    trained = train(features=True, identity=identity)
    files = {name: tmp_path / f"{name}.npz" for name in ("user_features", "item_features")}
    for name, path in files.items():
        sp.save_npz(path, getattr(trained, name))
    content = {"model": trained.model, "mapping": trained.dataset.mapping(), "note": "of March"}

    bring(tmp_path, content, **files)

    assert_served_scores_are_lightfms(tmp_path, trained)


def as_list(path: Path, mapping: dict[Any, int]) -> Path:
    path.write_text(json.dumps(sorted(mapping, key=mapping.__getitem__)))
    return path


def as_object(path: Path, mapping: dict[Any, int]) -> Path:
    path.write_text(json.dumps(mapping))
    return path


def as_array(path: Path, mapping: dict[Any, int]) -> Path:
    np.save(path.with_suffix(".npy"), np.array(sorted(mapping, key=mapping.__getitem__)))
    return path.with_suffix(".npy")


def as_lines(path: Path, mapping: dict[Any, int]) -> Path:
    lines = "\n".join(map(str, sorted(mapping, key=mapping.__getitem__)))
    path.with_suffix(".txt").write_text(lines + "\n")
    return path.with_suffix(".txt")


@pytest.mark.process
@pytest.mark.parametrize("written", [as_list, as_object, as_array, as_lines])
def test_a_model_pickled_alone_with_files_of_identifiers(
    tmp_path: Path, written: Callable[[Path, dict[Any, int]], Path]
) -> None:
    trained = train(features=False)
    users, _, items, _ = trained.dataset.mapping()

    bring(tmp_path, trained.model, users=written(tmp_path / "u.json", users), items=written(tmp_path / "i.json", items))

    assert_served_scores_are_lightfms(tmp_path, trained)


@pytest.mark.process
def test_what_was_seen_is_brought_along_and_the_model_is_signed(tmp_path: Path) -> None:
    trained = train(features=False)
    users, _, items, _ = trained.dataset.mapping()
    sp.save_npz(tmp_path / "seen.npz", trained.interactions)
    key = tmp_path / "key.pem"
    assert retrain("key", str(key)).returncode == 0
    path = dump(tmp_path / "model.pkl", [trained.model, trained.dataset])
    os.utime(path, (1_760_000_000, 1_760_000_000))

    done = retrain(
        "import-lightfm", str(path), "--trust-pickle", "--interactions", str(tmp_path / "seen.npz"),
        MODEL_STORE_URL=(tmp_path / "models").as_uri(), MODEL_SIGNING_KEY_FILE=str(key),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Model 20251009T085320Z-")
    assert done.stdout.endswith(": live\n")
    assert list((tmp_path / "models").glob("*/manifest.*.sig"))
    server = RecommendationServer(
        FileStore(tmp_path / "models"), tmp_path / "cache", NoMetrics(), threads=2, poll_interval_s=60
    )
    matrix = trained.interactions.tocsr()
    with Client.to(server.start("127.0.0.1:0")) as client:
        for user in USERS:
            page = client.recommendations.Recommend(pb.RecommendRequest(user_id=user, page_size=50), timeout=10)
            shown = {int(video.video_id) for video in page.videos}
            seen = {item for item in ITEMS if matrix[users[user], items[item]]}
            assert (len(seen), shown) == (8, set(ITEMS) - seen)
    server.stop(0)
