"""Settings of the server, from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from recsvc.cores import usable_cores
from recsvc.signature import Verifier
from servicekit.credentials import TlsFiles
from servicekit.kafka_settings import KafkaSettings
from servicekit.logs import LogLevel
from servicekit.store_url import check_store_url


def _public_keys(pem: str) -> str:
    Verifier.parse(pem)
    return pem


class RecsvcSettings(KafkaSettings):
    """What the server is started with."""

    recsvc_listen: str = Field("127.0.0.1:50051", description="host:port to listen on")
    recsvc_workers: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=256,
        description="processes that share the port, by default one a core",
    )
    recsvc_threads: int = Field(
        8, ge=1, le=256, description="calls that a process handles at once, and as many batches"
    )
    recsvc_drain_grace_s: float = Field(10.0, ge=0, description="seconds that running calls get at shutdown")
    recsvc_profile_interactions: int = Field(
        500_000,
        ge=1,
        description="most interactions since training kept in memory, of all viewers; about 100 bytes each",
    )
    model_store_url: Annotated[str, AfterValidator(check_store_url)] = Field(
        description="where models are published, file:///folder or s3://bucket/prefix"
    )
    model_verify_key: Annotated[str, AfterValidator(_public_keys)] | None = Field(
        None, description="public keys, PEM, of which one must have signed a model; without them any model is served"
    )
    model_cache_dir: Path = Field(Path("~/.cache/recsvc/models"), description="folder of local copies of models")
    recsvc_precomputed_viewers: int = Field(
        500_000, ge=0, description="trained viewers whose pages are precomputed, about 512 bytes of disk each"
    )
    model_poll_interval_s: float = Field(
        5.0, gt=0, description="seconds between polls of the pointer to the live model"
    )
    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka brokers, host:port,...; without them profiles change by UpdateUserProfile only"
    )
    recsvc_freshness_interval_s: float = Field(
        10.0, gt=0, description="seconds between updates of popularity from live interactions"
    )
    tls_cert_file: Path | None = Field(None, description="certificate chain of this server, PEM")
    tls_key_file: Path | None = Field(None, description="its private key, PEM")
    tls_ca_file: Path | None = Field(None, description="CA certificates for callers, PEM")
    dd_agent_host: str | None = Field(None, description="host of the Datadog agent; no metrics without one")
    dd_dogstatsd_port: int = Field(8125, ge=1, le=65535, description="its DogStatsD port, UDP")
    log_level: LogLevel = Field(
        "info", description="minimum log level: debug, info, warning or error; debug logs each page with its request_id"
    )

    def verifier(self) -> Verifier | None:
        """Return what knows whose models are served, None where anybody's are."""
        return Verifier.parse(self.model_verify_key) if self.model_verify_key else None

    def tls(self) -> TlsFiles | None:
        """Return the TLS identity, None for plain text; ValueError when it is given in part."""
        return TlsFiles.of(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
