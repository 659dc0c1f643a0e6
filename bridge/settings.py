"""Reads the settings of the bridge from the environment."""

from pathlib import Path
from typing import Annotated, Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator, model_validator

from bridge.authentication.authenticator import SignatureAlgorithm, TokenPolicy
from bridge.authentication.user_token import MAX_LIFETIME_S
from bridge.feed.page_token import PageTokens
from bridge.maintenance.event_id_retention import EVENT_ID_DAYS, MIN_DAYS
from servicekit.configuration.setting_types import (
    DAY_S,
    MAX_PORT,
    YEAR_S,
    Addresses,
    Brokers,
    FileToWrite,
    Formerly,
    HttpUrl,
    InFile,
    ListenAddress,
    Number,
    PostgresUrl,
    ReadableFile,
)
from servicekit.credentials.tls_files import TlsFiles
from servicekit.kafka.settings import KafkaSettings
from servicekit.telemetry.logs import LogLevel

MAX_HALVINGS: Final = 700
"""Half-lives in the window of trending: what has halved more often is too small for a double to count with."""


def connection_string(value: str) -> str:
    """Return the connection string of Postgres; ValueError for a text that is none."""
    try:
        conninfo_to_dict(value)
    except psycopg.Error:
        raise ValueError("is not a postgresql:// URL") from None  # the driver's message would show the password
    return value


class BridgeSettings(KafkaSettings):
    """Settings of the bridge."""

    bridge_listen: ListenAddress = Field("127.0.0.1:50052", description="host:port to listen on")
    bridge_lame_duck_s: Number = Field(
        0.5,
        ge=0,
        le=600,
        description="seconds at shutdown in which the bridge serves on while its health says NOT_SERVING",
    )
    bridge_drain_grace_s: Number = Field(10.0, ge=0, le=3600, description="seconds that running calls get at shutdown")
    lightfm_grpc_endpoint: Addresses = Field(
        "127.0.0.1:50051", description="recsvc: host:port, several with commas between, or dns:///host:port"
    )
    lightfm_connections: int = Field(
        1,
        ge=1,
        le=64,
        description="connections to each address of recsvc; several per worker let all workers get calls",
    )
    lightfm_budget_ms: int = Field(
        150, ge=20, le=60_000, description="milliseconds for a page; LightFM, retries included, gets 10 less"
    )
    breaker_failures: int = Field(5, ge=1, le=10_000, description="failures in a row that open the circuit breaker")
    breaker_failure_ratio: Number = Field(
        0.5, ge=0.001, le=1, description="share of failures in 10 s that opens the circuit breaker"
    )
    breaker_open_s: Number = Field(
        2.0, ge=0.01, le=3600, description="seconds until an open breaker lets a probe through"
    )
    database_url: Annotated[PostgresUrl, InFile()] = Field(
        description="Postgres, postgresql://user:password@host:port/database", repr=False
    )
    database_connections: int = Field(8, ge=4, le=1000, description="connections to Postgres at most")
    kafka_bootstrap_servers: Brokers | None = Field(
        None, description="Kafka brokers, host:port,...; without them interactions are kept in Postgres only"
    )
    kafka_replication: int = Field(
        3, ge=1, le=100, description="replicas of the topics that `topics` makes and expects"
    )
    kafka_warm_up_s: Number = Field(
        5.0, ge=0, le=3600, description="seconds to wait for Kafka before serving without it"
    )
    kafka_stall_s: Number = Field(
        15.0, ge=0.1, le=3600, description="seconds without any acknowledgement after which the producer is replaced"
    )
    kafka_flush_s: Number = Field(5.0, ge=0, le=3600, description="seconds that unsent messages get at shutdown")
    interaction_budget_ms: int = Field(
        2000, ge=10, le=600_000, description="milliseconds to make an interaction durable"
    )
    interaction_order_wait_s: Number = Field(
        15.0,
        ge=0,
        le=DAY_S,
        description="seconds that a bridge started without Postgres refuses interactions rather than risk their order",
    )
    event_id_days: int = Field(
        EVENT_ID_DAYS,
        ge=MIN_DAYS,
        le=3660,
        description="days for which repeats of an event are recognised in Postgres",
    )
    features_interval_s: Number = Field(
        300.0,
        ge=0.01,
        le=7 * DAY_S,
        description="seconds between publications of users' features to `processed_features`",
    )
    position_sync_endpoint: Addresses | None = Field(
        None, description="PlaybackService to forward positions to, host:port"
    )
    trending_snapshot_path: FileToWrite = Field(
        Path(".run/trending.json"), description="file of the last trending ranking"
    )
    trending_interval_s: Number = Field(
        30.0,
        ge=0.01,
        le=DAY_S,
        description="seconds between updates of the trending ranking; at least nine times what an update takes",
    )
    trending_half_life_h: Number = Field(
        24.0, ge=0.25, le=17_568, description="hours after which an interaction counts half"
    )
    trending_window_h: Number = Field(
        168.0,
        ge=0.01,
        le=17_568,
        description="hours in which what a user does to a video counts once for each type; twice as many are kept, and"
        " more where fewer than 500 videos trend",
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
    segment_write_key: SecretStr | None = Field(
        None, description="write key of the Segment source; no analytics without one"
    )
    segment_url: HttpUrl = Field(
        "https://api.segment.io/v1/batch", description="URL that takes batches of Segment events"
    )
    segment_flush_s: Number = Field(3.0, ge=0, le=3600, description="seconds that unsent events get at shutdown")
    experiment_path: ReadableFile | None = Field(None, description="JSON file of the experiment on the feed")
    user_keys_path: Annotated[ReadableFile | None, Formerly("VIEWER_KEYS_PATH")] = Field(
        None,
        description="public keys for users' JWTs, PEM or JSON Web Key Set; without them callers name the user",
    )
    user_token_algorithms: Annotated[tuple[SignatureAlgorithm, ...], Formerly("VIEWER_TOKEN_ALGORITHMS")] = Field(
        ("RS256",), min_length=1, description="accepted signature algorithms of users' tokens, a JSON list"
    )
    user_token_audience: Annotated[str | None, Formerly("VIEWER_TOKEN_AUDIENCE")] = Field(
        None, description="audience that users' tokens must name; required with USER_KEYS_PATH"
    )
    user_token_issuer: Annotated[str | None, Formerly("VIEWER_TOKEN_ISSUER")] = Field(
        None, description="issuer that users' tokens must name; required with USER_KEYS_PATH"
    )
    user_token_lifetime_s: Number = Field(
        MAX_LIFETIME_S,
        ge=1,
        le=10 * YEAR_S,
        description="most seconds from `iat` to `exp` of users' tokens, which need both, and `sub`, `aud`, `iss`",
    )
    anonymous_users: Annotated[bool, Formerly("ANONYMOUS_VIEWERS")] = Field(
        default=False, description="whether calls without a user's token get trending pages"
    )
    tls_cert_file: ReadableFile | None = Field(None, description="certificate chain of this server, PEM")
    tls_key_file: ReadableFile | None = Field(None, description="private key of this server's certificate, PEM")
    tls_ca_file: ReadableFile | None = Field(None, description="CA certificates for callers and for recsvc, PEM")
    dd_agent_host: str | None = Field(None, description="host of the Datadog agent; no metrics without one")
    dd_dogstatsd_port: int = Field(8125, ge=1, le=MAX_PORT, description="DogStatsD port of the Datadog agent, UDP")
    log_level: LogLevel = Field(
        "info", description="minimum log level: debug, info, warning or error; debug logs each page with its request_id"
    )

    @field_validator("database_url")
    @classmethod
    def _is_connection_string(cls, value: str) -> str:
        return connection_string(value)

    @model_validator(mode="after")
    def _window_can_be_weighed(self) -> Self:
        if self.trending_window_h > MAX_HALVINGS * self.trending_half_life_h:
            raise ValueError(f"TRENDING_WINDOW_H is more than {MAX_HALVINGS} times TRENDING_HALF_LIFE_H")
        return self

    @field_validator("page_token_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            PageTokens(_keys(value))
        return value

    def token_keys(self) -> list[bytes]:
        """Return the keys of page tokens; none if bridges share theirs through Postgres."""
        return _keys(self.page_token_keys) if self.page_token_keys else []

    def tls(self) -> TlsFiles | None:
        """Return the TLS files, None for plain text; ValueError if only some are given."""
        return TlsFiles.of(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)

    def token_policy(self) -> TokenPolicy:
        """Return the requirements on users' tokens; ValueError if the settings are incomplete."""
        if not (self.user_token_audience and self.user_token_issuer):
            raise ValueError("USER_KEYS_PATH needs USER_TOKEN_AUDIENCE and USER_TOKEN_ISSUER")
        return TokenPolicy(
            algorithms=self.user_token_algorithms,
            audience=self.user_token_audience,
            issuer=self.user_token_issuer,
            max_lifetime_s=self.user_token_lifetime_s,
        )


def _keys(value: SecretStr) -> list[bytes]:
    return [key.encode() for key in value.get_secret_value().replace(",", " ").split()]
