"""Settings of the bridge, from the environment."""

from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator

from bridge.identity import SignatureAlgorithm, TokenPolicy
from bridge.page_token import PageTokens
from bridge.retention import EVENT_ID_DAYS, LEAST_DAYS
from bridge.user_token import MAX_LIFETIME_S
from servicekit.credentials import TlsFiles
from servicekit.kafka_settings import KafkaSettings
from servicekit.logs import LogLevel


class BridgeSettings(KafkaSettings):
    """What the bridge is started with."""

    bridge_listen: str = Field("127.0.0.1:50052", description="host:port to listen on")
    bridge_drain_grace_s: float = Field(10.0, ge=0, description="seconds that running calls get at shutdown")
    lightfm_grpc_endpoint: str = Field(
        "127.0.0.1:50051", description="recsvc: host:port, several with commas between, or dns:///host:port"
    )
    lightfm_connections: int = Field(
        1, ge=1, le=64, description="connections to each address; several per recsvc worker let all workers get calls"
    )
    lightfm_budget_ms: int = Field(
        150, ge=20, description="milliseconds for a page; LightFM, retries included, gets 10 less"
    )
    breaker_failures: int = Field(5, ge=1, description="failures in a row that open the circuit breaker")
    breaker_failure_ratio: float = Field(0.5, gt=0, le=1, description="share of failures in 10 s that opens it")
    breaker_open_s: float = Field(2.0, gt=0, description="seconds until an open breaker lets a probe through")
    database_url: str = Field(description="Postgres, postgresql://user:password@host:port/database", repr=False)
    database_connections: int = Field(8, ge=4, description="connections to Postgres at most")
    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka brokers, host:port,...; without them interactions are kept in Postgres only"
    )
    kafka_replication: int = Field(3, ge=1, description="replicas of the topics that `topics` makes and expects")
    kafka_warm_up_s: float = Field(5.0, ge=0, description="seconds to wait for Kafka before serving without it")
    kafka_stall_s: float = Field(
        15.0, gt=0, description="seconds without any acknowledgement after which the producer is replaced"
    )
    kafka_flush_s: float = Field(5.0, ge=0, description="seconds that unsent messages get at shutdown")
    interaction_budget_ms: int = Field(2000, ge=10, description="milliseconds to make an interaction durable")
    interaction_order_wait_s: float = Field(
        15.0,
        ge=0,
        description="seconds that a bridge started without Postgres refuses interactions rather than risk their order",
    )
    event_id_days: int = Field(
        EVENT_ID_DAYS,
        ge=LEAST_DAYS,
        le=3650,
        description="days for which repeats of an event are recognised in Postgres",
    )
    features_interval_s: float = Field(
        300.0, gt=0, le=86_400, description="seconds between publications of viewers' features to `processed_features`"
    )
    position_sync_endpoint: str | None = Field(None, description="PlaybackService to forward positions to, host:port")
    trending_snapshot_path: Path = Field(Path(".run/trending.json"), description="file of the last trending ranking")
    trending_interval_s: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="seconds between updates of the trending ranking; at least nine times what an update takes",
    )
    trending_half_life_h: float = Field(
        24.0, ge=0.01, le=87_600, description="hours after which an interaction counts half"
    )
    trending_window_h: float = Field(
        168.0,
        ge=0.01,
        le=87_600,
        description="hours for which an interaction counts; where fewer than 500 videos had any, those of the last such"
        " span before follow",
    )
    trending_unknown_videos: bool = Field(
        default=False, description="whether videos that are not in the catalogue trend, where there is a catalogue"
    )
    trending_videos: int = Field(5000, ge=1, le=1_000_000, description="videos in the trending ranking")
    page_token_keys: SecretStr | None = Field(
        None,
        description="keys that sign page tokens, of 32 characters or more, with commas between: the first signs, all"
        " are accepted; without them bridges share keys through Postgres",
    )
    segment_write_key: SecretStr | None = Field(None, description="Segment source; no analytics without one")
    segment_url: str = Field("https://api.segment.io/v1/batch", description="where batches of events are sent")
    segment_flush_s: float = Field(3.0, ge=0, le=600, description="seconds that unsent events get at shutdown")
    experiment_path: Path | None = Field(None, description="JSON file of the experiment on the feed")
    viewer_keys_path: Path | None = Field(
        None,
        description="public keys for viewers' JWTs, PEM or JSON Web Key Set; without them callers name the viewer",
    )
    viewer_token_algorithms: tuple[SignatureAlgorithm, ...] = Field(
        ("RS256",), min_length=1, description="signature algorithms of these tokens, a JSON list"
    )
    viewer_token_audience: str | None = Field(
        None, description="audience that these tokens must name; required with keys"
    )
    viewer_token_issuer: str | None = Field(None, description="issuer that these tokens must name; required with keys")
    user_token_lifetime_s: float = Field(
        MAX_LIFETIME_S,
        gt=0,
        le=10 * 366 * 86_400,
        description="seconds from `iat` to `exp` of these tokens at most; they need both, and `sub`, `aud`, `iss`",
    )
    anonymous_viewers: bool = Field(default=False, description="whether calls without a token get trending pages")
    tls_cert_file: Path | None = Field(None, description="certificate chain of this server, PEM")
    tls_key_file: Path | None = Field(None, description="its private key, PEM")
    tls_ca_file: Path | None = Field(None, description="CA certificates for callers and for recsvc, PEM")
    dd_agent_host: str | None = Field(None, description="host of the Datadog agent; no metrics without one")
    dd_dogstatsd_port: int = Field(8125, ge=1, le=65535, description="its DogStatsD port, UDP")
    log_level: LogLevel = Field(
        "info", description="minimum log level: debug, info, warning or error; debug logs each page with its request_id"
    )

    @field_validator("database_url")
    @classmethod
    def _is_connection_string(cls, value: str) -> str:
        try:
            conninfo_to_dict(value)
        except psycopg.Error:
            raise ValueError("is not a postgresql:// URL") from None  # the driver's message would show the password
        return value

    @field_validator("page_token_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            PageTokens(_keys(value))
        return value

    def token_keys(self) -> list[bytes]:
        """Return the keys of page tokens; none where bridges share theirs through Postgres."""
        return _keys(self.page_token_keys) if self.page_token_keys else []

    def tls(self) -> TlsFiles | None:
        """Return the TLS identity, None for plain text; ValueError when it is given in part."""
        return TlsFiles.of(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)

    def token_policy(self) -> TokenPolicy:
        """Return which viewers' tokens are good; ValueError when the settings do not say."""
        if not (self.viewer_token_audience and self.viewer_token_issuer):
            raise ValueError("VIEWER_KEYS_PATH needs VIEWER_TOKEN_AUDIENCE and VIEWER_TOKEN_ISSUER")
        return TokenPolicy(
            algorithms=self.viewer_token_algorithms,
            audience=self.viewer_token_audience,
            issuer=self.viewer_token_issuer,
            max_lifetime_s=self.user_token_lifetime_s,
        )


def _keys(value: SecretStr) -> list[bytes]:
    return [key.encode() for key in value.get_secret_value().replace(",", " ").split()]
