"""Keys, signing and activation from the command line, with real stores."""

from pathlib import Path

import pytest

from modelstore.artefact import read
from modelstore.registry import Registry
from modelstore.signature import Verifier
from retrain.publishing.publish import publish, write_verified
from servicekit.storage.object_store import FileStore
from tests.retrain.support.command import retrain
from tests.retrain.support.models import NOW, model

pytestmark = pytest.mark.process


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The private key of a pair made by the command."""
    path = tmp_path / "signing.pem"
    done = retrain("key", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "PRIVATE" not in done.stdout
    return path


def unsigned(folder: Path) -> str:
    """Publish a model without a signature and return its version."""
    manifest = write_verified(model(), "20260302-", folder / "written")
    return publish(Registry(FileStore(folder / "models")), folder / "written", manifest, now=NOW).version


def signing(folder: Path, key: Path) -> dict[str, str]:
    return {"MODEL_STORE_URL": (folder / "models").as_uri(), "MODEL_SIGNING_KEY_FILE": str(key)}


def verifier(key: Path) -> Verifier:
    return Verifier.parse(key.with_name(f"{key.name}.pub").read_text(encoding="utf-8"))


def test_a_key_pair_is_made_once(key: Path, tmp_path: Path) -> None:
    """The private key is its owner's only, and nothing is ever overwritten, not even half of a pair."""
    assert key.stat().st_mode & 0o777 == 0o600
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = retrain("key", str(key))
    assert (done.returncode, done.stderr) == (2, f"error: File exists: {key}.pub\n")
    (tmp_path / "half.pem").write_text("mine")
    done = retrain("key", str(tmp_path / "half.pem"))
    assert (done.returncode, done.stderr) == (2, f"error: File exists: {tmp_path / 'half.pem'}\n")
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.pem", "signing.pem", "signing.pem.pub"]


def test_a_version_is_signed_by_hand_and_then_trusted(key: Path, tmp_path: Path) -> None:
    version, registry = unsigned(tmp_path), Registry(FileStore(tmp_path / "models"), verifier(key))
    assert not registry.trusts(version)
    refused = retrain("activate", version, **signing(tmp_path, key))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"error: {version} is not fit to be served: the model is not signed\n"

    done = retrain("sign", version, **signing(tmp_path, key))

    assert (done.returncode, done.stdout, done.stderr) == (0, f"Model {version}: signed\n", "")
    assert registry.trusts(version)
    current = registry.current()
    assert current
    assert read(registry.fetch(current[0], tmp_path / "cache")).manifest.version == version
    assert retrain("activate", version, **signing(tmp_path, key)).returncode == 0


def test_a_damaged_version_is_not_signed(key: Path, tmp_path: Path) -> None:
    version = unsigned(tmp_path)
    (tmp_path / "models" / version / "users.npy").write_bytes(b"other")

    done = retrain("sign", version, **signing(tmp_path, key))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {version} is not fit to be served: users.npy has 5 bytes instead of 130\n"
    assert not Registry(FileStore(tmp_path / "models"), verifier(key)).trusts(version)


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({}, "error: MODEL_SIGNING_KEY: Field required"),
        (
            {"MODEL_SIGNING_KEY": "secret words"},
            "error: MODEL_SIGNING_KEY: is not an unencrypted Ed25519 private key in PEM",
        ),
    ],
)
def test_a_wrong_key_is_named_and_not_quoted(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    done = retrain("sign", "1", MODEL_STORE_URL=tmp_path.as_uri(), **variables)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{line}\n")


def test_a_version_that_never_was_is_named(key: Path, tmp_path: Path) -> None:
    done = retrain("sign", "never-was", **signing(tmp_path, key))

    assert done.returncode == 1
    assert done.stderr == f"error: {(tmp_path / 'models').as_uri()} holds no version never-was\n"
