"""Reads the settings of a client of Kafka from the environment."""

from typing import Any, Literal

from pydantic import Field, SecretStr

from servicekit.configuration.setting_types import Brokers, Readable, ReadableFile
from servicekit.configuration.settings import Settings, secret_file
from servicekit.credentials.certificate_life import parse_certificates
from servicekit.credentials.client_identity import check_pair
from servicekit.credentials.renewal import Contents, Renewed, text_of
from servicekit.kafka.client import KafkaSecurity, client_config

CA, CERTIFICATE, KEY, PASSWORD = "KAFKA_CA_FILE", "KAFKA_CERT_FILE", "KAFKA_KEY_FILE", "KAFKA_SASL_PASSWORD"


class KafkaSettings(Settings):
    """Settings of a client of Kafka; without KAFKA_BOOTSTRAP_SERVERS there are no brokers."""

    kafka_bootstrap_servers: Brokers | None = Field(None, description="Kafka brokers, host:port,...")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"] | None = Field(
        None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or AWS_MSK_IAM"
    )
    kafka_sasl_username: str | None = Field(None, description="user name of Kafka for PLAIN and SCRAM")
    kafka_sasl_password: SecretStr | None = Field(None, description="password of Kafka for PLAIN and SCRAM")
    kafka_ca_file: Readable | None = Field(
        None, description="CA certificates for the brokers, PEM; the system's by default"
    )
    kafka_cert_file: ReadableFile | None = Field(
        None, description="client certificate, for brokers that ask for one, PEM"
    )
    kafka_key_file: ReadableFile | None = Field(
        None, description="private key of the client certificate for Kafka, PEM"
    )
    kafka_aws_region: str | None = Field(None, description="region of an MSK cluster")
    kafka_aws_role_arn: str | None = Field(
        None,
        description="IAM role to assume for MSK, such as feed-rec-producer's; by default the environment's credentials",
    )

    def kafka_client(self, password: str | None = None) -> dict[str, Any]:
        """Return the configuration for the brokers, which must be set; ValueError when it is inconsistent.

        Args:
            password: Instead of the one that the program was started with.
        """
        if password is None and self.kafka_sasl_password:
            password = self.kafka_sasl_password.get_secret_value()
        security = KafkaSecurity(
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_sasl_username,
            password=password,
            ca_file=self.kafka_ca_file,
            cert_file=self.kafka_cert_file,
            key_file=self.kafka_key_file,
            aws_region=self.kafka_aws_region,
            aws_role_arn=self.kafka_aws_role_arn,
        )
        return client_config(self.kafka_bootstrap_servers or "", security)

    def renewed_kafka_client(self) -> Renewed[dict[str, Any]]:
        """Return the configuration, renewed with its certificate, key or password; OSError for missing files."""
        files = {
            CA: self.kafka_ca_file,
            CERTIFICATE: self.kafka_cert_file,
            KEY: self.kafka_key_file,
            PASSWORD: secret_file(PASSWORD),
        }
        given = {name: path for name, path in files.items() if path}
        return Renewed(given, self._renew, certificates=(CA, CERTIFICATE))

    def _renew(self, contents: Contents) -> dict[str, Any]:
        if CERTIFICATE in contents and KEY in contents:
            check_pair(contents, certificate=CERTIFICATE, key=KEY)
        if CA in contents:
            parse_certificates(CA, contents[CA])
        return self.kafka_client(text_of(PASSWORD)(contents) if PASSWORD in contents else None)
