"""Keeps what the local system knows between two runs in a folder, one for each data set."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.child_process import ChildError
from servicekit.files.lock import FileLock
from servicekit.files.replacement import PRIVATE, write_whole
from servicekit.process.ports import free_port, is_free

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class State:
    """The folder of one data set."""

    folder: Path

    @property
    def logs(self) -> Path:
        """Return the folder of the services' logs."""
        return self.folder / "logs"

    @property
    def models(self) -> Path:
        """Return the folder of the model store."""
        return self.folder / "models"

    @property
    def signing_key(self) -> Path:
        """Return the file of the private key that signs models; the public key is `<file>.pub`."""
        return self.folder / "signing-key.pem"

    @property
    def simulated(self) -> Path:
        """Return the folder of the simulated data set."""
        return self.folder / "data"

    @property
    def database_url(self) -> Path:
        """Return the file of the database's URL, which holds the password and is for its owner only."""
        return self.folder / "database-url"

    def keep_database_url(self, url: str) -> None:
        """Write the URL to a file for commands that people type, so that nobody has to print it."""
        write_whole(self.database_url, url, mode=PRIVATE)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other runs; ChildError when another run holds it."""
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.folder / "lock")
        except BlockingIOError:
            raise ChildError(f"it runs already on {self.folder}: stop it first (Ctrl-C in its terminal)") from None
        with lock:
            yield

    def port(self, name: str) -> int:
        """Return the port of this program in earlier runs, or another one if that is taken now."""
        path = self.folder / "ports.json"
        try:
            ports: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            ports = {}
        if name not in ports or not is_free("127.0.0.1", ports[name]):
            ports[name] = free_port()
            path.write_text(json.dumps(ports), encoding="utf-8")
        return ports[name]


def state_of(data: Path | None, base: Path = ROOT / ".run") -> State:
    """Return the state of a data set's folder, or of simulated data."""
    if data is None:
        return State(base / "simulated")
    digest = hashlib.sha256(str(data).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", data.name) or "data"
    return State(base / f"{name}-{digest}")


def short(path: Path) -> str:
    """Return the path as a person in the checkout would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
