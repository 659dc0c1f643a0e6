"""Files that are replaced while a program runs: what is good is taken, what is not is told of once."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from servicekit.configuration.settings import secret_now
from servicekit.credentials.certificate_life import Life, lives, report
from servicekit.credentials.client_identity import renewed_identity
from servicekit.credentials.renewal import Renewals, Renewed, text_of
from servicekit.credentials.tls_files import TlsFiles
from servicekit.kafka.settings import KafkaSettings
from servicekit.telemetry.metrics import NoMetrics, connect_metrics
from tests.support.certificates import Authority
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for


def put(path: Path, text: str) -> None:
    """Replace a file as those do who renew secrets: at once."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.rename(path)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    put(path, "old\n")
    return path


def test_what_changed_is_taken_and_told(password: Path) -> None:
    told: list[str] = []
    renewed = Renewed({"PASSWORD": password}, text_of("PASSWORD"))
    renewed.subscribe(told.append)
    assert not renewed.look()
    put(password, "new\n")
    assert renewed.look()
    assert (renewed.current, told) == ("new", ["new"])
    assert not renewed.look()


@pytest.mark.parametrize("bad", [b"", b"\xff\xfe", None])
def test_what_cannot_be_used_changes_nothing_and_is_told_of_once(password: Path, bad: bytes | None) -> None:
    renewed = Renewed({"PASSWORD": password}, text_of("PASSWORD"))
    password.unlink()
    if bad is not None:
        password.write_bytes(bad)
    with capture_logs() as logs:
        assert [renewed.look() for _ in range(3)] == [False] * 3
        put(password, "new")
        assert renewed.look()
    assert renewed.current == "new"
    assert [log["event"] for log in logs] == ["renewal.not_taken", "renewal.taken"]
    assert "old" not in str(logs)


def test_files_behind_a_link_that_is_switched(tmp_path: Path) -> None:
    """As Kubernetes renews a mounted secret: one link leads to another folder."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "password").write_text(name)
    (tmp_path / "now").symlink_to("old")
    renewed = Renewed({"PASSWORD": tmp_path / "now" / "password"}, text_of("PASSWORD"))
    (tmp_path / "next").symlink_to("new")
    os.replace(tmp_path / "next", tmp_path / "now")  # noqa: PTH105  # of links
    assert renewed.look()
    assert renewed.current == "new"


def test_a_certificate_waits_for_its_key(tmp_path: Path) -> None:
    """While only one of them has been replaced, the old pair stays."""
    files = Authority(tmp_path, "authority").issue("bridge")
    renewed = renewed_identity(files)
    before, key = renewed.current, files.key.read_bytes()
    Authority(tmp_path, "authority").issue("bridge")
    fresh = files.key.read_bytes()
    files.key.write_bytes(key)
    with capture_logs() as logs:
        assert not renewed.look()
    assert renewed.current is before
    assert logs[0]["problem"] == "TLS_KEY_FILE is not the key of TLS_CERT_FILE"
    files.key.write_bytes(fresh)
    assert renewed.look()
    assert renewed.current.key == fresh


def test_an_identity_that_does_not_fit_is_refused_at_the_start(tmp_path: Path) -> None:
    files = Authority(tmp_path, "authority").issue("bridge")
    wrong = TlsFiles(certificate=files.authority, key=files.key, authority=files.authority)
    with pytest.raises(ValueError, match="TLS_KEY_FILE is not the key of TLS_CERT_FILE"):
        renewed_identity(wrong)
    files.authority.write_text("none")
    with pytest.raises(ValueError, match="TLS_CA_FILE holds no certificates in PEM"):
        renewed_identity(files)


def test_a_thread_looks_and_tells_of_the_end(tmp_path: Path, password: Path, dogstatsd: DogStatsdServer) -> None:
    files = Authority(tmp_path, "authority").issue("bridge")
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    told: list[str] = []
    with Renewals(metrics, look_s=0.02) as renewals:
        renewals.add(renewed_identity(files))
        renewed = renewals.add(Renewed({"PASSWORD": password}, text_of("PASSWORD")))
        renewed.subscribe(_failing)
        renewed.subscribe(told.append)
        put(password, "new")
        wait_for(lambda: told == ["new"])
    metrics.close()
    (life,) = dogstatsd.wait("feed.tls.certificate_life_seconds", "file:tls_cert_file")[:1]
    assert 0 < life.values[0] <= timedelta(days=1).total_seconds()


def _failing(_: str) -> None:
    raise RuntimeError("a defect")


def test_the_end_is_warned_of_once_and_ahead() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    young = {"TLS_CERT_FILE": Life(now, now + timedelta(days=90))}
    short = {"TLS_CERT_FILE": Life(now - timedelta(hours=12), now + timedelta(hours=12))}
    old = {"TLS_CERT_FILE": Life(now - timedelta(days=85), now + timedelta(days=5))}
    with capture_logs() as logs:
        for found in (young, short, old, old):
            report(found, NoMetrics(), now=now)
    (warning,) = logs
    assert (warning["event"], warning["setting"], warning["left_h"]) == ("certificate.expires", "TLS_CERT_FILE", 120.0)


def test_of_several_authorities_the_youngest_counts(tmp_path: Path) -> None:
    content = b"".join(Authority(tmp_path, name).issue("x").authority.read_bytes() for name in ("one", "two"))
    found = lives({"TLS_CA_FILE": content, "TLS_CERT_FILE": content})
    assert found["TLS_CA_FILE"].end >= found["TLS_CERT_FILE"].end


def test_kafka_credentials_follow_their_files(tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Authority(tmp_path, "kafka").issue("client")
    given: dict[str, Any] = {
        "KAFKA_BOOTSTRAP_SERVERS": "b:9096",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "u",
        "KAFKA_SASL_PASSWORD_FILE": password,
        "KAFKA_CA_FILE": pair.authority,
        "KAFKA_CERT_FILE": pair.certificate,
        "KAFKA_KEY_FILE": pair.key,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    renewed = KafkaSettings.load().renewed_kafka_client()
    assert renewed.current["sasl.password"] == "old"
    assert "KAFKA_SASL_PASSWORD" not in os.environ, "a child process reads the file of its day"
    put(password, "new")
    assert renewed.look()
    assert renewed.current["sasl.password"] == "new"
    Authority(tmp_path, "kafka").issue("client")
    assert renewed.look()
    assert [*renewed.lives()] == ["KAFKA_CA_FILE", "KAFKA_CERT_FILE"]


def test_a_secret_is_asked_for_as_it_is_now(password: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSWORD", raising=False)
    assert secret_now("PASSWORD", "known") == "known"
    monkeypatch.setenv("PASSWORD_FILE", str(password))
    assert secret_now("PASSWORD", "known") == "old"
    put(password, "new")
    assert secret_now("PASSWORD", "known") == "new"
    password.unlink()
    assert secret_now("PASSWORD", "known") == "known"
    monkeypatch.setenv("PASSWORD", "given")
    put(password, "new")
    assert secret_now("PASSWORD", "given") == "given", "the environment's own counts"
