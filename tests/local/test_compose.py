"""The parts of the Compose stack that need no engine."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # comes with moto, without types

from bridge.settings import BridgeSettings
from deploy.probe import serves
from modelstore.signature import SigningKey, Verifier
from recsvc.settings import RecsvcSettings
from retrain.settings import RetrainSettings
from servicekit.configuration.settings import Settings
from servicekit.credentials.tls_files import TlsFiles, server_credentials
from servicekit.server.thread_server import ThreadServer

pytestmark = pytest.mark.process

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
    own = folder / name
    return TlsFiles(certificate=own / f"{name}.crt", key=own / f"{name}.key", authority=own / "ca.crt")


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
    key = SigningKey.parse((secrets / "retrain/model-signing.key").read_text(encoding="utf-8"))
    Verifier.parse((secrets / "recsvc/model-signing.pub").read_text(encoding="utf-8")).check(
        b"model", key.sign(b"model")
    )


def test_the_secrets_are_made_once(secrets: Path) -> None:
    """Another start of the stack must not lock the database out."""
    before = contents(secrets)
    subprocess.run(["sh", str(ROOT / "deploy/compose/secrets.sh"), str(secrets)], check=True, capture_output=True)
    assert contents(secrets) == before
    assert not [path for path in before if path.endswith("ca.key")], "nobody else is to be trusted"
    assert before["postgres/postgres-password"] in before["bridge/database-url"]


def contents(secrets: Path) -> dict[str, bytes]:
    return {str(path.relative_to(secrets)): path.read_bytes() for path in secrets.glob("*/*")}


OWN: Final = {
    "bridge": {"bridge.crt", "bridge.key", "ca.crt", "database-url"},
    "client": {"client.crt", "client.key", "ca.crt", "complete"},
    "postgres": {"postgres-password"},
    "recsvc": {"recsvc.crt", "recsvc.key", "ca.crt", "model-signing.pub", "aws-credentials"},
    "retrain": {"model-signing.key", "database-url", "aws-credentials"},
    "s3": {"s3.json"},
}


def test_each_service_gets_its_own_secrets_alone(secrets: Path, compose: Any) -> None:
    """And the files that it names are there."""
    assert {folder.name: {file.name for file in folder.iterdir()} for folder in secrets.iterdir()} == OWN
    users = {"topics": "bridge", "prepare": "retrain"}
    for name, service in compose["services"].items():
        mounts = [mount.split(":") for mount in service.get("volumes", ()) if "-secrets:" in mount]
        if name == "secrets":
            assert {source for source, _ in mounts} == {f"{owner}-secrets" for owner in OWN}
            continue
        owner = users.get(name, name)
        assert mounts in ([], [[f"{owner}-secrets", "/secrets", "ro"]]), name
        named = [str(value) for value in service.get("environment", {}).values()] + [*service.get("command", ())]
        files = {Path(part.split("=")[-1]).name for part in named if "/secrets/" in part}
        assert files <= OWN.get(owner, set()), name


def test_images_are_named_by_a_full_version_that_a_digest_may_replace(compose: Any) -> None:
    images = {service["image"] for service in compose["services"].values()}
    others = {image for image in images if not image.startswith("video-window-")}
    others |= {
        service["build"]["args"]["PYTHON_IMAGE"] for service in compose["services"].values() if "build" in service
    }
    assert len(others) == 5
    assert all(
        re.fullmatch(r"\$\{[A-Z0-9]+_IMAGE:-[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z-]+)?\}", image) for image in others
    ), others


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
