"""Keeps local copies of models, and records which one was live last."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelstore.artefact import MANIFEST, ArtefactError, read_manifest
from modelstore.registry import Pointer, Registry, checked
from recsvc.local_files.folders import LIVE_STATE
from servicekit.files.lock import FileLock
from servicekit.files.replacement import write_whole

LAST: Final = "last.json"
PATIENCE_S: Final = 1_000.0
"""Seconds to wait for another process that loads a model; longer than one can take to check it."""


class ModelCache:
    """The models of one registry in a folder of this machine; processes may share the folder.

    Args:
        registry: Where models come from.
        folder: Made when missing.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry = registry
        self.folder = folder

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Lock the cache, so that no process removes or replaces files that another one reads.

        BlockingIOError when one takes too long.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock.of_folder(self.folder, patience_s=PATIENCE_S):
            yield

    def download(self, pointer: Pointer) -> Path:
        """Return the folder of the local copy, downloaded unless present; its contents are not checked.

        ArtefactError when it is not what the pointer names, or not signed by whom the registry trusts.
        """
        folder = self._registry.fetch(pointer, self.folder)
        version = read_manifest((folder / MANIFEST).read_bytes()).version
        if version != pointer.version:
            raise ArtefactError("version", f"the manifest of {pointer.version} names {version}")
        return folder

    def discard(self, pointer: Pointer) -> bool:
        """Remove the local copy and return whether there was one."""
        folder = self.folder / checked(pointer.version)
        found = folder.exists()
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def remember(self, pointer: Pointer, before: Pointer | None = None) -> None:
        """Record the pointer of the model that went live, and delete all copies but this one and the one before.

        Args:
            pointer: The model's.
            before: Of the one that this process served before, if any; else the last one of this machine stays.
        """
        last = self.last()
        if before is None and last == pointer:
            return  # it was live before this process started
        before = before or last or pointer
        write_whole(self.folder / LAST, pointer.model_dump_json())
        keep = {pointer.version, before.version, LIVE_STATE}
        # While another process loads a model nothing is dropped: it comes here next.
        with suppress(BlockingIOError), FileLock.of_folder(self.folder):
            for folder in self.folder.iterdir():
                if folder.is_dir() and not folder.name.startswith(".") and folder.name not in keep:
                    shutil.rmtree(folder, ignore_errors=True)

    def last(self) -> Pointer | None:
        """Return the pointer of the model that was live last, None if there was none."""
        try:
            return Pointer.model_validate_json((self.folder / LAST).read_bytes())
        except (OSError, ValidationError):
            return None
