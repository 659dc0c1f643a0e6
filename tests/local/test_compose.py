"""The parts of the Compose stack that need no engine."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # comes with moto, without types

from bridge.settings import BridgeSettings
from deploy.probe import serves
from recsvc.settings import RecsvcSettings
from recsvc.signature import SigningKey, Verifier
from retrain.settings import RetrainSettings
from servicekit.credentials import TlsFiles, server_credentials
from servicekit.lifecycle import ThreadServer
from servicekit.settings import Settings

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the init service fills."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run(["sh", str(ROOT / "deploy/compose/secrets.sh"), str(folder)], check=True, capture_output=True)
    return folder


def identity(folder: Path, name: str) -> TlsFiles:
    return TlsFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key", authority=folder / "ca.crt")


@pytest.fixture
def recsvc(secrets: Path) -> Iterator[str]:
    """A server with recsvc's certificate."""
    server = ThreadServer([], threads=2)
    port = server.start("127.0.0.1:0", server_credentials("127.0.0.1:0", identity(secrets, "recsvc")))
    server.set_serving(serving=True)
    yield f"localhost:{port}"
    server.drain(0)


@pytest.mark.parametrize("caller", ["recsvc", "bridge", "client"])
def test_the_certificates_open_the_servers(secrets: Path, recsvc: str, caller: str) -> None:
    assert serves(recsvc, identity(secrets, caller))


def test_without_a_certificate_the_servers_stay_closed(recsvc: str) -> None:
    assert not serves(recsvc)


def test_the_keys_that_sign_and_verify_models_are_a_pair(secrets: Path) -> None:
    key = SigningKey.parse((secrets / "model-signing.key").read_text(encoding="utf-8"))
    Verifier.parse((secrets / "model-signing.pub").read_text(encoding="utf-8")).check(b"model", key.sign(b"model"))


def test_the_secrets_are_made_once(secrets: Path) -> None:
    """Another start of the stack must not lock the database out."""
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run(["sh", str(ROOT / "deploy/compose/secrets.sh"), str(secrets)], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    assert "ca.key" not in before
    assert before["postgres-password"] in before["database-url"]


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def test_services_depend_on_services_that_exist(compose: Any) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)


def test_mounted_files_and_volumes_exist(compose: Any) -> None:
    for service in compose["services"].values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            known = (ROOT / source).exists() if source.startswith("./") else source in compose["volumes"]
            assert known or source.startswith("${DATA"), mount


@pytest.mark.parametrize(
    ("service", "settings"),
    [
        ("recsvc", RecsvcSettings),
        ("bridge", BridgeSettings),
        ("topics", BridgeSettings),
        ("prepare", RetrainSettings),
        ("retrain", RetrainSettings),
    ],
)
def test_programs_know_their_variables(compose: Any, service: str, settings: type[Settings]) -> None:
    """A misspelt variable would be a setting that is silently left at its default."""
    known = {name.upper() for name in settings.model_fields}
    given = {name for name in compose["services"][service]["environment"] if not name.startswith("AWS_")}
    assert {name if name in known else name.removesuffix("_FILE") for name in given} <= known


def test_no_password_stands_in_the_file(compose: Any) -> None:
    text = str(compose).lower()
    assert "password" in text
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name or name.startswith("DATABASE_URL"):
                assert str(value).startswith("/secrets/"), name
