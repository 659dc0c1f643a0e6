"""Keeps files derived from a model beside its local copy: one process of a machine makes them, the others map them.

The folder of its files appears whole or not at all. It is read only when every file is what was written, and when it
was made of the same model, by the same code and with the same parameters; else it is made anew.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict

from modelstore.artefact import ArtefactError, FileEntry, Manifest, digest
from recsvc.local_files.memory import return_free_memory
from servicekit.files.lock import FileLock

T = TypeVar("T")

DESCRIPTION: Final = "description.json"
PATIENCE_S: Final = 120.0
"""Seconds after which a process no longer waits for another one's work, which may never come."""

logger = structlog.get_logger(__name__)


class _Description(BaseModel):
    """Size and digest of the derived files."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Model and code that the files were made from."""
    files: dict[str, FileEntry]


class DerivedFiles:
    """Keeps one kind of derived files of one model.

    Args:
        model: Folder of the model's local copy.
        name: Of the folder within that one.
        manifest: What the model is.
        parameters: All that the thing depends on besides, versions of code and libraries included.
    """

    def __init__(self, model: Path, name: str, manifest: Manifest, parameters: Sequence[object]) -> None:
        self._name = name
        self._model = model
        self._folder = model / name
        self._partial = model / f".{name}"
        self._key = hashlib.sha256(repr((parameters, manifest.model_dump_json())).encode()).hexdigest()

    def obtain(self, load: Callable[[Path], T], make: Callable[[], T], write: Callable[[T, Path], None]) -> T:
        """Return the kept value; else make it, write it, and return it as the other processes will read it.

        Args:
            load: Reads it from its folder.
            make: Makes it.
            write: Writes what was made into a folder.
        """
        with self._turn() as is_ours:
            if (kept := self.read(load)) is not None:
                return kept
            made = make()
            if is_ours and self.write(partial(write, made)) and (kept := self.read(load)) is not None:
                del made
                return_free_memory()
                return kept
            return made

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Wait for the turn to make the files; yield False when that takes too long or nothing can be kept."""
        with ExitStack() as stack:
            try:
                stack.enter_context(FileLock.of_folder(self._model, patience_s=PATIENCE_S))
            except OSError as error:
                logger.warning("kept.not_shared", what=self._name, problem=str(error))
                yield False
            else:
                yield True

    def read(self, load: Callable[[Path], T]) -> T | None:
        """Return the kept value of this model, None if no usable one exists.

        Args:
            load: Reads it from its folder.
        """
        try:
            described = _Description.model_validate_json((self._folder / DESCRIPTION).read_bytes())
            if described.key != self._key:
                logger.info("kept.outdated", what=self._name)
                return None
            for name, entry in described.files.items():
                _check(self._folder / name, entry)
            return load(self._folder)
        except FileNotFoundError:
            return None
        except (ArtefactError, OSError, ValueError, RuntimeError) as error:  # RuntimeError is what FAISS raises
            logger.warning("kept.damaged", what=self._name, problem=str(error))
            return None

    def write(self, fill: Callable[[Path], None]) -> bool:
        """Write a value in place of the kept one, and return whether it fitted; only the process whose turn it is may.

        Args:
            fill: Writes it into a folder.
        """
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()
            fill(self._partial)
            written = self._partial.iterdir()
            files = {one.name: FileEntry(size=one.stat().st_size, sha256=digest(one)) for one in written}
            described = _Description(key=self._key, files=files)
            (self._partial / DESCRIPTION).write_text(described.model_dump_json(indent=2), encoding="utf-8")
            shutil.rmtree(self._folder, ignore_errors=True)
            self._partial.rename(self._folder)
        except OSError as error:  # the disk is full, or the model is gone
            shutil.rmtree(self._partial, ignore_errors=True)
            logger.warning("kept.not_written", what=self._name, problem=str(error))
            return False
        logger.info("kept.written", what=self._name)
        return True


def _check(path: Path, entry: FileEntry) -> None:
    if path.stat().st_size != entry.size or digest(path) != entry.sha256:
        raise ValueError(f"{path.name} is not what was written")
