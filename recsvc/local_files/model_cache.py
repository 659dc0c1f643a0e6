"""Local copies of models, verified at every load, and a note of which one was live last."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelstore.artefact import ArtefactError, Model, read
from modelstore.registry import Pointer, Registry, checked
from servicekit.files.lock import FileLock
from servicekit.files.replacement import write_whole

LAST: Final = "last.json"
DAMAGED: Final = frozenset({"manifest", "signature", "missing", "size", "checksum"})
"""Reasons to refuse a local copy that a fresh one may mend."""
PATIENCE_S: Final = 1_000.0
"""Seconds to wait for another process that loads a model; longer than one can take to prepare it."""


class ModelCache:
    """The models of one registry in a folder of this machine; processes may share the folder.

    Args:
        registry: Where models come from.
        folder: Made when missing.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry = registry
        self._folder = folder

    def load(self, pointer: Pointer, read: Callable[[Path], Model] = read) -> Model:
        """Return a verified model, downloaded unless it is here; ArtefactError when it must not be served.

        A damaged local copy is replaced by a fresh one, once. Processes take turns, so that none removes or replaces
        what another one reads; BlockingIOError when one takes too long.

        Args:
            pointer: Names it.
            read: Verifies the model in a folder and returns it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock.of_folder(self._folder, patience_s=PATIENCE_S):
            return self._sound(pointer, read)

    def _sound(self, pointer: Pointer, read: Callable[[Path], Model]) -> Model:
        try:
            return self._load(pointer, read)
        except ArtefactError as error:
            if error.reason not in DAMAGED or not self._discard(pointer):
                raise
        try:
            return self._load(pointer, read)
        except ArtefactError:
            self._discard(pointer)
            raise

    def remember(self, pointer: Pointer, before: Pointer | None = None) -> None:
        """Note the pointer of the model that went live, and drop the copies of all others but the one before.

        Args:
            pointer: The model's.
            before: Of the one that this process served before, if any; else the last one of this machine stays.
        """
        last = self.last()
        if before is None and last == pointer:
            return  # it was live before this process started
        before = before or last or pointer
        write_whole(self._folder / LAST, pointer.model_dump_json())
        keep = {pointer.version, before.version}
        # While another process loads a model nothing is dropped: it comes here next.
        with suppress(BlockingIOError), FileLock.of_folder(self._folder):
            for folder in self._folder.iterdir():
                if folder.is_dir() and not folder.name.startswith(".") and folder.name not in keep:
                    shutil.rmtree(folder, ignore_errors=True)

    def last(self) -> Pointer | None:
        """Return the pointer of the model that was live last, None when there is none."""
        try:
            return Pointer.model_validate_json((self._folder / LAST).read_bytes())
        except (OSError, ValidationError):
            return None

    def _load(self, pointer: Pointer, read: Callable[[Path], Model]) -> Model:
        folder = self._registry.fetch(pointer, self._folder)
        model = read(folder)
        if model.manifest.version != pointer.version:
            raise ArtefactError("version", f"the manifest of {pointer.version} names {model.manifest.version}")
        return replace(model, folder=folder)

    def _discard(self, pointer: Pointer) -> bool:
        """Remove the local copy and return whether there was one."""
        folder = self._folder / checked(pointer.version)
        found = folder.exists()
        shutil.rmtree(folder, ignore_errors=True)
        return found
