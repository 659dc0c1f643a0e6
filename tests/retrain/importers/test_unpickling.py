"""Nothing is unpickled that nobody vouches for, and what does not fit is named."""

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse as sp
from lightfm import LightFM

from modelstore.registry import Registry
from retrain.errors import RunError
from retrain.importers.lightfm_model import Source, import_lightfm
from retrain.importers.lightfm_pickle import in_order, read_ids, read_matrix, unpickle
from servicekit.storage.object_store import FileStore
from tests.retrain.support.command import ROOT, refusal, retrain
from tests.retrain.support.models import NOW
from tests.retrain.support.trained_elsewhere import dump, train


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
