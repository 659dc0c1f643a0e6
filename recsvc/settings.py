"""Reads the settings of the server from the environment."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from modelstore.signature import Verifier
from recsvc.cores import usable_cores
from servicekit.configuration.setting_types import (
    DAY_S,
    MAX_PORT,
    Brokers,
    Folder,
    Formerly,
    InFile,
    ListenAddress,
    Number,
    ReadableFile,
    StoreUrl,
)
from servicekit.configuration.settings import secret_file
from servicekit.credentials.renewal import Renewed, text_of
from servicekit.credentials.tls_files import TlsFiles
from servicekit.kafka.settings import KafkaSettings
from servicekit.telemetry.logs import LogLevel

VERIFY_KEY: Final = "MODEL_VERIFY_KEY"


def _public_keys(pem: str) -> str:
    Verifier.parse(pem)
    return pem


class RecsvcSettings(KafkaSettings):
    """Settings of the server."""

    recsvc_listen: ListenAddress = Field("127.0.0.1:50051", description="host:port to listen on")
    recsvc_workers: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=256,
        description="processes that share the port, by default one a core",
    )
    recsvc_threads: int = Field(
        8, ge=1, le=256, description="pages that a process makes at once, and a quarter as many batches"
    )
    recsvc_direct_calls: bool = Field(
        True,  # noqa: FBT003  # as all defaults are given
        description="whether calls are answered on gRPC's core, which takes the pinned release of grpcio; false"
        " serves by any release, for more processor time",
    )
    recsvc_lame_duck_s: Number = Field(
        0.5, ge=0, le=600, description="seconds at shutdown in which recsvc serves on while its health says NOT_SERVING"
    )
    recsvc_drain_grace_s: Number = Field(10.0, ge=0, le=3600, description="seconds that running calls get at shutdown")
    recsvc_live_state_mib: int = Field(
        4096,
        ge=64,
        le=1 << 20,
        description="mebibytes of disk that profiles and counts since training may take; beyond it the users who were"
        " away longest are dropped",
    )
    model_store_url: StoreUrl = Field(description="store of published models, file:///folder or s3://bucket/prefix")
    model_verify_key: Annotated[str, AfterValidator(_public_keys), InFile()] | None = Field(
        None, description="public keys, PEM, of which one must have signed a model; without them any model is served"
    )
    model_cache_dir: Folder = Field(Path("~/.cache/recsvc/models"), description="folder of local copies of models")
    recsvc_precomputed_users: Annotated[int, Formerly("RECSVC_PRECOMPUTED_VIEWERS")] = Field(
        500_000,
        ge=0,
        le=1_000_000_000,
        description="trained users whose pages are precomputed, about 512 bytes of disk each",
    )
    model_poll_interval_s: Number = Field(
        5.0, ge=0.01, le=DAY_S, description="seconds between polls of the pointer to the live model"
    )
    kafka_bootstrap_servers: Brokers | None = Field(
        None, description="Kafka brokers, host:port,...; without them profiles change by UpdateUserProfile only"
    )
    recsvc_freshness_interval_s: Number = Field(
        10.0, ge=0.01, le=DAY_S, description="seconds between updates of popularity from live interactions"
    )
    tls_cert_file: ReadableFile | None = Field(None, description="certificate chain of this server, PEM")
    tls_key_file: ReadableFile | None = Field(None, description="private key of this server's certificate, PEM")
    tls_ca_file: ReadableFile | None = Field(None, description="CA certificates for callers, PEM")
    dd_agent_host: str | None = Field(None, description="host of the Datadog agent; no metrics without one")
    dd_dogstatsd_port: int = Field(8125, ge=1, le=MAX_PORT, description="DogStatsD port of the Datadog agent, UDP")
    log_level: LogLevel = Field(
        "info", description="minimum log level: debug, info, warning or error; debug logs each page with its request_id"
    )

    def renewed_verifier(self) -> Renewed[Verifier] | None:
        """Return the verifier that follows its file, None if the keys come from no file."""
        path = secret_file(VERIFY_KEY)
        parse = text_of(VERIFY_KEY)
        return Renewed({VERIFY_KEY: path}, lambda contents: Verifier.parse(parse(contents))) if path else None

    def verifier(self) -> Verifier | None:
        """Return the verifier of served models, None if signatures are not required."""
        return Verifier.parse(self.model_verify_key) if self.model_verify_key else None

    def tls(self) -> TlsFiles | None:
        """Return the TLS files, None for plain text; ValueError if only some are given."""
        return TlsFiles.of(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
