"""Configures clients of Kafka: names, security and logs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

MSK_IAM: Final = "AWS_MSK_IAM"
SESSION: Final = "feed-rec-producer"


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaSecurity:
    """Protocol and credentials for the brokers.

    Attributes:
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or AWS_MSK_IAM; None without SASL.
        username: For PLAIN and SCRAM.
        password: Likewise.
        ca_file: Authority of the brokers; None for the system's.
        cert_file: Certificate of this client, for brokers that ask for one.
        key_file: Its private key.
        aws_region: Region of an MSK cluster.
        aws_role_arn: Role to take on; None for the role that the environment gives, as on EKS.
    """

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    aws_region: str | None = None
    aws_role_arn: str | None = None

    def __post_init__(self) -> None:
        """Refuse combinations that could only fail later; ValueError names them."""
        if self.protocol.startswith("SASL") is not (self.mechanism is not None):
            raise ValueError("KAFKA_SASL_MECHANISM goes with KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT or SASL_SSL")
        if self.mechanism == MSK_IAM:
            if not self.aws_region or self.protocol != "SASL_SSL":
                raise ValueError("AWS_MSK_IAM needs KAFKA_SECURITY_PROTOCOL=SASL_SSL and KAFKA_AWS_REGION")
        elif self.mechanism and not (self.username and self.password):
            raise ValueError(f"{self.mechanism} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")


def client_config(bootstrap_servers: str, security: KafkaSecurity) -> dict[str, Any]:
    """Return librdkafka's properties for these brokers."""
    files = {
        "ssl.ca.location": security.ca_file,
        "ssl.certificate.location": security.cert_file,
        "ssl.key.location": security.key_file,
    }
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "security.protocol": security.protocol,
        **{name: str(path) for name, path in files.items() if path},
    }
    if security.mechanism == MSK_IAM:
        token = msk_token(security.aws_region or "", security.aws_role_arn)
        return config | {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": token}
    if security.mechanism:
        config |= {"sasl.mechanism": security.mechanism}
        config |= {"sasl.username": security.username, "sasl.password": security.password}
    return config


def msk_token(region: str, role_arn: str | None) -> Callable[[str], tuple[str, float]]:
    """Return the callback that signs in to MSK: called before each token ends, it returns token and end in seconds."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415  # it loads botocore

    def token(_: str) -> tuple[str, float]:
        if role_arn:
            text, ends_ms = MSKAuthTokenProvider.generate_auth_token_from_role_arn(region, role_arn, SESSION)
        else:
            text, ends_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return text, ends_ms / 1000

    return token


def quiet_logger() -> logging.Logger:
    """Return a silent logger for librdkafka, which repeats itself while brokers are away."""
    quiet = logging.getLogger("librdkafka")
    if not quiet.handlers:
        quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    return quiet
