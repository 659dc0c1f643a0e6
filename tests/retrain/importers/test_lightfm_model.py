"""Models that were really trained with LightFM elsewhere, pickled, imported, and served."""

import ast
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import scipy.sparse as sp
from lightfm import LightFM
from lightfm.data import Dataset

from modelstore.registry import Registry
from recsvc.app import RecommendationServer
from retrain.errors import RunError
from retrain.importers.lightfm_model import Source, import_lightfm
from retrain.importers.lightfm_pickle import in_order, read_ids, read_matrix, unpickle
from retrain.publishing.publish import Outcome
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import NoMetrics
from tests.recsvc.support.calls import Client
from tests.retrain.support.command import ROOT, refusal, retrain
from tests.retrain.support.models import NOW
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

USERS: Final = [f"user {number}" for number in range(30)]
ITEMS: Final = list(range(1000, 1050))
"""Identifiers as many have them: numbers, whose order as texts is another one once they grow."""
TAGS: Final = ["red", "green", "blue"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A LightFM model as its maker has it."""

    model: Any
    dataset: Any
    interactions: Any
    user_features: Any
    item_features: Any

    def predict(self, user: str) -> "np.ndarray[Any, Any]":
        """Return LightFM's scores of all items, in the order of `ITEMS`."""
        users, _, items, _ = self.dataset.mapping()
        rows = np.array([items[item] for item in ITEMS])
        scores: np.ndarray[Any, Any] = self.model.predict(
            users[user], rows, user_features=self.user_features, item_features=self.item_features
        )
        return scores


def train(*, features: bool, identity: bool = True, loss: str = "warp") -> Trained:
    """Fit a model on random interactions, told in shuffled order, with side features or without."""
    rng = np.random.default_rng(3)
    dataset = Dataset(user_identity_features=identity, item_identity_features=identity)
    dataset.fit(
        rng.permutation(USERS).tolist(),
        rng.permutation(ITEMS).tolist(),
        user_features=TAGS if features else None,
        item_features=TAGS if features else None,
    )
    pairs = [(user, int(item)) for user in USERS for item in rng.choice(ITEMS, 8, replace=False)]
    interactions, _ = dataset.build_interactions(pairs)
    user_features = item_features = None
    if features:
        user_features = dataset.build_user_features([(one, rng.choice(TAGS, 2).tolist()) for one in USERS])
        item_features = dataset.build_item_features([(one, rng.choice(TAGS, 1).tolist()) for one in ITEMS])
    model = LightFM(no_components=8, loss=loss, random_state=1)
    model.fit(interactions, user_features=user_features, item_features=item_features, epochs=5)
    return Trained(model, dataset, interactions, user_features, item_features)


def dump(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


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


class Bomb:
    """Leaves a mark when it is unpickled, as a hostile file would."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.mkdir, (str(self._mark),))


@pytest.mark.process
def test_nothing_is_unpickled_unless_the_file_is_said_to_be_trusted(tmp_path: Path) -> None:
    path = dump(tmp_path / "model.pkl", Bomb(tmp_path / "mark"))
    url = (tmp_path / "models").as_uri()

    refused = refusal(retrain("import-lightfm", str(path), MODEL_STORE_URL=url))
    assert "runs whatever code it brings" in refused
    assert not (tmp_path / "mark").exists()

    done = retrain("import-lightfm", str(path), "--trust-pickle", MODEL_STORE_URL=url)
    assert (tmp_path / "mark").exists()
    assert (done.returncode, done.stderr) == (2, f"error: {path} holds 0 LightFM models instead of one\n")


@pytest.mark.parametrize("package", ["recsvc", "servicekit", "bridge"])
def test_servers_have_no_way_to_unpickle(package: str) -> None:
    """None of their modules imports a module that unpickles, nor the package that does."""
    banned = {"pickle", "joblib", "dill", "shelve", "marshal", "retrain", "lightfm"}
    for path in (ROOT / package).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & banned, path
        assert "allow_pickle=True" not in path.read_text(encoding="utf-8"), path


def wrong(folder: Path, content: Any, **files: Path) -> str:
    """Return why this cannot be imported."""
    source = Source(pickle=dump(folder / "model.pkl", content), **files)
    with pytest.raises(RunError) as caught:
        import_lightfm(source, Registry(FileStore(folder / "models")), trained_at=NOW, now=NOW, key=None)
    assert caught.value.is_input
    return str(caught.value)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    trained, with_features = train(features=False), train(features=True)
    few, twice, bad = tmp_path / "few.txt", tmp_path / "twice.json", tmp_path / "bad.json"
    few.write_text("a\nb\nc\n")
    twice.write_text(json.dumps(["a", "b", "a"]))
    bad.write_text(json.dumps(["a", "", "x" * 129]))
    pair = (trained.model, trained.dataset)

    assert wrong(tmp_path, trained.model).endswith("--users names a file of them")
    assert "was never fitted" in wrong(tmp_path, LightFM())
    assert "holds 2 LightFM models" in wrong(tmp_path, [trained.model, trained.model])
    assert "the model holds 30 users or features of them, and there are 3" in wrong(tmp_path, pair, users=few)
    assert wrong(tmp_path, pair, users=twice) == "users: 1 identifiers stand there twice"
    assert "users: '' must not be empty; 'xxx" in wrong(tmp_path, pair, users=bad)
    assert "No such file" in wrong(tmp_path, pair, items=tmp_path / "none.txt")
    assert "--user-features gives their matrix" in wrong(tmp_path, (with_features.model, with_features.dataset))
    assert "is not a matrix" in wrong(tmp_path, pair, interactions=few)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[true, null, 1.5, NaN]", "users: True, None, 1.5 is neither text nor an integer, and 1 more"),
        ("[[]]", "users: [] is neither text nor an integer"),
        ('{"a": "0"}', "the positions of the users are not 0 to 0, each once"),
        ('{"a": true}', "the positions of the users are not 0 to 0, each once"),
        ("[" * 100_000, "does not hold identifiers"),
    ],
)
def test_what_json_makes_of_other_things_is_no_identifier(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "ids.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError) as caught:
        in_order(read_ids(tmp_path / "ids.json"), "users")
    assert problem in str(caught.value)


def test_a_line_is_one_identifier_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes("a\u2028b\r\nc d\r\n".encode())
    assert read_ids(tmp_path / "ids.txt") == ["a\u2028b", "c d"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 3e38, 1e300])
def test_a_matrix_holds_numbers_to_count_with(tmp_path: Path, number: float) -> None:
    sp.save_npz(tmp_path / "odd.npz", sp.csr_matrix([[1.0, number], [0.0, 2.0]]))
    with pytest.raises(RunError, match=r"odd.npz holds 1 numbers that are not finite, or above 1e\+30"):
        read_matrix(tmp_path / "odd.npz")


def test_a_file_that_is_no_pickle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"not a pickle")
    with pytest.raises(RunError, match=r"cannot be unpickled: "):
        unpickle(path)
