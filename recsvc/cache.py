"""Local copies of models, verified at every load, and a note of which one was live last."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from recsvc.artefact import ArtefactError, Model, read
from recsvc.registry import Pointer, Registry, checked

LAST: Final = "last.json"


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

        A local copy that is refused is replaced by a fresh one, once.

        Args:
            pointer: Names it.
            read: Verifies the model in a folder and returns it.
        """
        try:
            return self._load(pointer, read)
        except ArtefactError:
            if not self._discard(pointer):
                raise
        try:
            return self._load(pointer, read)
        except ArtefactError:
            self._discard(pointer)
            raise

    def remember(self, pointer: Pointer) -> None:
        """Note the pointer of the model that went live, and drop the copies of all others but the one before."""
        last = self.last()
        if last == pointer:
            return  # another process of this machine was faster
        partial = self._folder / f".{LAST}.{os.getpid()}"
        partial.write_text(pointer.model_dump_json(), encoding="utf-8")
        partial.replace(self._folder / LAST)
        keep = {pointer.version, last.version if last else pointer.version}
        for folder in self._folder.iterdir():
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def last(self) -> Pointer | None:
        """Return the pointer of the model that was live last, None when there is none."""
        try:
            return Pointer.model_validate_json((self._folder / LAST).read_bytes())
        except (FileNotFoundError, ValidationError):
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
