"""Reads the settings of the training job from the environment."""

import math
import os
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from modelstore.signature import SigningKey
from retrain.hyperparameters import Hyperparameters
from retrain.scratch import private_folder
from retrain.snowflake_account import SnowflakeAccount
from servicekit.configuration.setting_types import (
    DAY_S,
    MAX_PORT,
    YEAR_S,
    FileToWrite,
    Folder,
    HttpUrl,
    Memory,
    Number,
    SecretPostgresUrl,
    StoreUrl,
)
from servicekit.configuration.settings import Settings, secret_now
from servicekit.storage.store_url import Bucket, read_store_url
from servicekit.telemetry.logs import LogLevel


def _private_key(pem: SecretStr) -> SecretStr:
    SigningKey.parse(pem.get_secret_value())
    return pem


WARM_EPOCHS: Final = 1.5
"""Passes of a warm start, for each of a full fit."""


class SigningSettings(Settings):
    """Settings of a program that publishes or signs models."""

    model_signing_key: Annotated[SecretStr, AfterValidator(_private_key)] | None = Field(
        None, description="private key, PEM, that signs models (`python -m retrain key` makes one); none: not signed"
    )

    def signing_key(self) -> SigningKey | None:
        """Return the key that signs models, None if they are not signed."""
        return SigningKey.parse(self.model_signing_key.get_secret_value()) if self.model_signing_key else None


class StoreSettings(SigningSettings):
    """Environment of commands on published models."""

    model_store_url: StoreUrl = Field(description="store of published models, file:///folder or s3://bucket/prefix")
    model_versions_kept: int = Field(
        14,
        ge=1,
        le=100_000,
        description="number of newest versions to keep; the live version and its parent stay at any age",
    )


class RetrainSettings(StoreSettings):
    """Settings of a run."""

    interactions_url: StoreUrl = Field(
        description="folder that holds the YYYY-MM-DD/*.parquet exports, file:///folder or s3://bucket/prefix"
    )
    catalogue_url: StoreUrl | None = Field(
        None, description="folder whose videos.parquet and history.parquet are used where they exist"
    )
    export_marker: Literal["auto", "required", "ignored"] = Field(
        "auto",
        description="whether a day counts only with its _SUCCESS file: required, ignored, or auto: required on s3://",
    )
    retrain_work_dir: Folder = Field(default_factory=private_folder, description="folder for scratch files of a run")
    retrain_memory: Memory = Field("2GiB", description="memory for preparing data; the rest spills to disk")
    retrain_threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)),
        ge=1,
        le=256,
        description="threads; 1 gives the same model bit for bit each time, on one kind of processor",
    )
    retrain_window_days: int = Field(30, ge=1, le=36_600, description="days of exports that are trained on")
    retrain_half_life_days: Number = Field(
        30.0, ge=0.01, le=36_600, description="days in which an interaction halves in weight"
    )
    retrain_popularity_half_life_days: Number = Field(
        1.0, ge=0.01, le=36_600, description="days in which an interaction halves in its part of a video's popularity"
    )
    retrain_loss: Literal["warp", "bpr"] = Field("warp", description="LightFM's loss, warp or bpr")
    retrain_factors: int = Field(128, ge=1, le=1024, description="dimensions of the representations")
    retrain_epochs: int = Field(
        20,
        ge=1,
        le=10_000,
        description="passes over each day's interactions; a warm start makes half as many again over new ones",
    )
    retrain_replayed_share: Number = Field(
        0.01, ge=0, le=1, description="share of all interactions that is replayed in each pass of a warm start"
    )
    retrain_warm_start: bool = Field(
        default=True, description="whether a run goes on from the last one's training state"
    )
    retrain_full_fit_days: int = Field(
        7, ge=1, le=36_600, description="days of data after which a night is fitted from nothing again"
    )
    retrain_learning_rate: Number = Field(0.05, ge=1e-6, le=10, description="LightFM's initial learning rate")
    retrain_recent_share: Number = Field(
        0.5, ge=0, le=1, description="share of a user's vector that comes from what the user liked last"
    )
    retrain_recent_half_life: Number = Field(
        10.0, ge=0.01, le=1_000_000, description="liked videos after which a like counts half in a user's vector"
    )
    retrain_bias_share: Number = Field(
        0.3, ge=0, le=1, description="share of LightFM's biases of videos that is served beside the popularity prior"
    )
    retrain_seed: int = Field(2025, ge=0, lt=2**32, description="seed of all randomness")
    retrain_report_path: FileToWrite | None = Field(
        None, description="HTML file that gets a copy of each run's report; the store keeps one beside each model"
    )
    retrain_evaluation_users: int = Field(
        10_000, ge=1, le=1_000_000_000, description="most users that quality is measured on"
    )
    database_url: SecretPostgresUrl | None = Field(
        None,
        description="Postgres of the bridge: one run at a time, and the log of runs; without it RETRAIN_WORK_DIR "
        "serves for both, among the runs of one machine",
    )
    schedule_limit_s: Number = Field(
        21_600.0, ge=0.1, le=YEAR_S, description="seconds after which the schedule ends a run"
    )
    schedule_retry_s: Number = Field(
        900.0, ge=0.1, le=7 * DAY_S, description="seconds until the schedule looks again for a due day"
    )
    schedule_catch_up_days: int = Field(
        7, ge=1, le=3660, description="missed days that the schedule catches up with, oldest first"
    )
    snowflake_account: str | None = Field(
        None, description="Snowflake account that keeps a log of runs; no such log without one"
    )
    snowflake_user: str | None = Field(None, description="Snowflake user that writes the log of runs")
    snowflake_password: SecretStr | None = Field(None, description="Snowflake password, or a programmatic access token")
    snowflake_database: str | None = Field(None, description="Snowflake database that holds feed.lightfm_retrain_log")
    snowflake_warehouse: str | None = Field(None, description="Snowflake warehouse, if the user has no default one")
    snowflake_role: str | None = Field(None, description="Snowflake role, if the user's default lacks the rights")
    snowflake_url: HttpUrl | None = Field(
        None, description="Snowflake's https://host:port, if it does not follow from the account"
    )
    dd_agent_host: str | None = Field(None, description="host of the Datadog agent; no metrics without one")
    dd_dogstatsd_port: int = Field(8125, ge=1, le=MAX_PORT, description="DogStatsD port of the Datadog agent, UDP")
    log_level: LogLevel = Field("info", description="minimum log level: debug, info, warning or error")

    def marker_required(self) -> bool:
        """Return whether a day without its completion marker is left out."""
        if self.export_marker == "auto":
            return isinstance(read_store_url(self.interactions_url), Bucket)
        return self.export_marker == "required"

    def conninfo(self) -> str | None:
        """Return the connection string of Postgres with the present password, None without Postgres."""
        return secret_now("DATABASE_URL", self.database_url.get_secret_value()) if self.database_url else None

    def snowflake(self) -> SnowflakeAccount | None:
        """Return the Snowflake account, None without Snowflake."""
        if not (self.snowflake_account and self.snowflake_user and self.snowflake_password and self.snowflake_database):
            return None
        return SnowflakeAccount(
            account=self.snowflake_account,
            user=self.snowflake_user,
            password=self.snowflake_password,
            database=self.snowflake_database,
            warehouse=self.snowflake_warehouse,
            role=self.snowflake_role,
            url=self.snowflake_url,
        )

    @model_validator(mode="after")
    def _whole_snowflake(self) -> Self:
        given = {name: getattr(self, f"snowflake_{name}") for name in ("account", "user", "password", "database")}
        missing = [f"SNOWFLAKE_{name.upper()}" for name, value in given.items() if not value]
        if 0 < len(missing) < len(given):
            raise ValueError(f"{', '.join(missing)} missing, for the Snowflake that the others name")
        return self

    def half_life(self) -> timedelta:
        """Return the time in which an interaction halves in weight."""
        return timedelta(days=self.retrain_half_life_days)

    def popularity_half_life(self) -> timedelta:
        """Return the time in which an interaction halves in its part of a video's popularity."""
        return timedelta(days=self.retrain_popularity_half_life_days)

    def hyperparameters(self) -> Hyperparameters:
        """Return the parameters of LightFM."""
        return Hyperparameters(
            loss=self.retrain_loss,
            factors=self.retrain_factors,
            learning_rate=self.retrain_learning_rate,
            threads=self.retrain_threads,
            seed=self.retrain_seed,
        )

    def epochs(self, *, warm: bool) -> int:
        """Return the passes over a day's interactions, in a warm start or in a full fit."""
        return math.ceil(WARM_EPOCHS * self.retrain_epochs) if warm else self.retrain_epochs

    def recipe(self) -> dict[str, object]:
        """Return the settings that a model depends on, besides its input."""
        apart = {"retrain_work_dir", "retrain_memory", "retrain_threads", "retrain_report_path"}
        return {
            name: value
            for name, value in self.model_dump().items()
            if name.startswith("retrain_") and name not in apart
        }

    def method(self) -> dict[str, object]:
        """Return the settings that a state of training must have in common with the next one."""
        apart = {"retrain_warm_start", "retrain_full_fit_days", "retrain_window_days"}
        return {name: value for name, value in self.recipe().items() if name not in apart}


class ExportSettings(Settings):
    """Settings of an export."""

    database_url: SecretPostgresUrl = Field(
        description="Postgres of the bridge, postgresql://user:password@host:port/database"
    )
    interactions_url: StoreUrl = Field(
        description="folder that the YYYY-MM-DD/*.parquet exports go to, file:///folder or s3://bucket/prefix"
    )
    catalogue_url: StoreUrl | None = Field(
        None,
        description="folder that `export --catalogue` writes videos.parquet to, file:///folder or s3://bucket/prefix",
    )
    log_level: LogLevel = Field("info", description="minimum log level: debug, info, warning or error")
