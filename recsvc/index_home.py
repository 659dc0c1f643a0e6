"""Where a model's index is kept beside the model's local copy: one process of a machine builds it, the others map it.

The folder of its files appears whole or not at all. It is read only when every file is what was written, and when it
was made of the same model, by the same FAISS and with the same parameters; else it is made anew.
"""

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import faiss
import structlog
from pydantic import BaseModel, ConfigDict

from recsvc.artefact import FileEntry, Manifest, digest

T = TypeVar("T")

FOLDER: Final = "index"
"""Folder of the index within that of the model's local copy."""
DESCRIPTION: Final = "index.json"
PATIENCE_S: Final = 120.0
"""Seconds after which a process no longer waits for another one's index, which may never come."""
POLL_S: Final = 0.05
_FORMAT: Final = 1
"""Of the files and of the way in which they are made."""
_PARTIAL: Final = f".{FOLDER}"
_LOCK: Final = f".{FOLDER}.lock"

logger = structlog.get_logger(__name__)


class _Description(BaseModel):
    """What the files must be."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Of what the index was made, by what."""
    files: dict[str, FileEntry]


class IndexHome:
    """Keeps one model's index.

    Args:
        folder: Of the model's local copy.
        manifest: What the model is.
        parameters: All that the index depends on besides.
    """

    def __init__(self, folder: Path, manifest: Manifest, parameters: Sequence[object]) -> None:
        self._model = folder
        self._folder = folder / FOLDER
        parts = (_FORMAT, faiss.__version__, parameters, manifest.model_dump_json())
        self._key = hashlib.sha256(repr(parts).encode()).hexdigest()

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait until no other process makes the index; yield False when that took too long or nothing can be kept."""
        try:
            lock = (self._model / _LOCK).open("wb")
        except OSError as error:
            logger.warning("index.not_kept", problem=str(error))
            yield False
            return
        with lock:
            yield _is_locked(lock.fileno(), PATIENCE_S)

    def read(self, load: Callable[[Path], T]) -> T | None:
        """Return what is kept of this model, None when it is nothing that may be used.

        Args:
            load: Reads the index from its folder.
        """
        try:
            described = _Description.model_validate_json((self._folder / DESCRIPTION).read_bytes())
            if described.key != self._key:
                logger.info("index.outdated")
                return None
            for name, entry in described.files.items():
                _check(self._folder / name, entry)
            return load(self._folder)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError is what FAISS raises
            logger.warning("index.damaged", problem=str(error))
            return None

    def write(self, fill: Callable[[Path], None]) -> bool:
        """Keep an index in place of what is there, and return whether there was room; only for whose turn it is.

        Args:
            fill: Writes the index into a folder.
        """
        partial = self._model / _PARTIAL
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            fill(partial)
            files = {one.name: FileEntry(size=one.stat().st_size, sha256=digest(one)) for one in partial.iterdir()}
            described = _Description(key=self._key, files=files)
            (partial / DESCRIPTION).write_text(described.model_dump_json(indent=2), encoding="utf-8")
            shutil.rmtree(self._folder, ignore_errors=True)
            partial.rename(self._folder)
        except OSError as error:  # the disk is full, or the model is gone
            shutil.rmtree(partial, ignore_errors=True)
            logger.warning("index.not_kept", problem=str(error))
            return False
        logger.info("index.kept")
        return True


def _check(path: Path, entry: FileEntry) -> None:
    if path.stat().st_size != entry.size or digest(path) != entry.sha256:
        raise ValueError(f"{path.name} is not what was written")


def _is_locked(descriptor: int, patience_s: float) -> bool:
    """Take the lock, which ends with this process however it ends; return False when another one keeps it."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                logger.warning("index.not_awaited", waited_s=patience_s)
                return False
            time.sleep(POLL_S)
        else:
            return True
