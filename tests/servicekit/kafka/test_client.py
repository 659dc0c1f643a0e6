"""How brokers are signed in to."""

import base64
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from servicekit.kafka.client import MSK_IAM, KafkaSecurity, client_config


def test_plain_text_by_default() -> None:
    config = client_config("b:9092", KafkaSecurity())
    assert config == {"bootstrap.servers": "b:9092", "security.protocol": "PLAINTEXT"}


def test_scram_over_tls() -> None:
    security = KafkaSecurity(
        protocol="SASL_SSL",
        mechanism="SCRAM-SHA-512",
        username="u",
        password="p",  # noqa: S106  # a placeholder
        ca_file=Path("ca.pem"),
    )
    assert client_config("b:9096", security) == {
        "bootstrap.servers": "b:9096",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
    }


def test_msk_token_is_a_signed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback returns what MSK expects: a presigned kafka-cluster:Connect, and its end in seconds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    config = client_config("b:9098", KafkaSecurity(protocol="SASL_SSL", mechanism=MSK_IAM, aws_region="eu-west-1"))
    assert config["sasl.mechanism"] == "OAUTHBEARER"
    token, ends_s = config["oauth_cb"]("")
    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = parse_qs(url.query)
    assert url.netloc == "kafka.eu-west-1.amazonaws.com"
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Credential"][0].startswith("AKIDEXAMPLE/")
    assert query["X-Amz-Security-Token"] == ["session"]
    assert 600 < ends_s - time.time() <= 900


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"mechanism": "PLAIN"}, "KAFKA_SASL_MECHANISM goes with"),
        ({"protocol": "SASL_SSL"}, "KAFKA_SASL_MECHANISM goes with"),
        ({"protocol": "SASL_SSL", "mechanism": MSK_IAM}, "KAFKA_AWS_REGION"),
        ({"protocol": "SASL_PLAINTEXT", "mechanism": MSK_IAM, "aws_region": "r"}, "SASL_SSL"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u"}, "KAFKA_SASL_PASSWORD"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        KafkaSecurity(**fields)  # type: ignore[arg-type]  # paths are not among them
