"""Snowflake's protocol, by fakesnow's server in an environment of its own, as its needs clash with this project's."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import SecretStr

from retrain.snowflake_account import SnowflakeAccount
from servicekit.process.ports import free_port, is_open
from tests.support.polling import wait_for

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("fakesnow[server]==0.12.1", "snowflake-connector-python==4.8.1")
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "video-window"
"""All clones share what was installed once."""
HOME: Final = CACHE / f"fakesnow-0.12.1-{sys.implementation.cache_tag}"
TABLE: Final = ROOT / "deploy" / "snowflake" / "lightfm_retrain_log.sql"
INSTALL: Final = ("install", "--quiet", "--disable-pip-version-check", *PACKAGES)
INSTALL_S: Final = 300


def fakesnow() -> Path:
    """Return the server's program, installed on first use; the test is skipped where that fails."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "fakesnow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (HOME / "ready").exists():
            _install()
    return HOME / "bin" / "fakesnow"


def _install() -> None:
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(HOME)],
            [str(HOME / "bin" / "pip"), *INSTALL],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"fakesnow cannot be installed: {error}")
    (HOME / "ready").touch()


@dataclass(slots=True)
class Snowflake:
    """A server that can be stopped and started again; it forgets everything."""

    program: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def account(self) -> SnowflakeAccount:
        """The account of the server's one user."""
        return SnowflakeAccount(
            account="fakesnow", user="fake", password=SecretStr("snow"), database="video", url=self.url
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a program that writes to it."""
        return {
            "SNOWFLAKE_ACCOUNT": "fakesnow",
            "SNOWFLAKE_USER": "fake",
            "SNOWFLAKE_PASSWORD": "snow",
            "SNOWFLAKE_DATABASE": "video",
            "SNOWFLAKE_URL": self.url,
        }

    def start(self) -> None:
        """Start it with the table that is written to."""
        command = [str(self.program), "-s", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: is_open(self.port), timeout_s=60, interval_s=0.1, what="fakesnow")
        with self.account.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS video")
            cursor.execute("USE DATABASE video")
            for statement in TABLE.read_text(encoding="utf-8").split(";"):
                if statement.strip():
                    cursor.execute(statement)

    def stop(self) -> None:
        """End it."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the log, oldest run first."""
        with self.account.cursor() as cursor:
            columns = "job_name, status, timestamp, interactions_processed, error_message"
            found: list[tuple[Any, ...]] = cursor.execute(
                f"SELECT {columns} FROM feed.lightfm_retrain_log"  # noqa: S608  # of the test's own
            ).fetchall()
            return sorted(found, key=lambda row: row[2])


@contextmanager
def snowflake_server() -> Iterator[Snowflake]:
    """Run a server."""
    server = Snowflake(fakesnow(), free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()
