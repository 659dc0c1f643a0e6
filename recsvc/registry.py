"""Published models in an object store, and the one pointer that says which is live.

`<version>/…` holds a version's files, its manifest written last; it never changes. `current.json` is the pointer, moved
by compare-and-swap, so of two publishers one wins.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsvc.artefact import MANIFEST, ArtefactError, Manifest, read_manifest
from servicekit.objectstore import MISSING, ObjectNotFoundError, ObjectStore

POINTER: Final = "current.json"
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")


class Pointer(BaseModel):
    """Which version is live."""

    model_config = ConfigDict(frozen=True)

    version: str
    manifest_sha256: str
    pinned: bool = False
    """A pinned version stays live when a newer one is published."""
    activated_at: AwareDatetime


class Registry:
    """The models of one store.

    Args:
        store: Where versions and the pointer stand.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def current(self) -> tuple[Pointer, str] | None:
        """Return the pointer and its tag for `activate`, None when nothing was published, ArtefactError when broken."""
        try:
            content = self._store.read(POINTER)
        except ObjectNotFoundError:
            return None
        try:
            return Pointer.model_validate_json(content.data), content.tag
        except ValidationError as error:
            raise ArtefactError("pointer", f"{POINTER} is not valid: {error.errors()[0]['msg']}") from None

    def activate(self, version: str, *, at: datetime, pin: bool = False, tag: str | None = None) -> Pointer:
        """Make a version live.

        Args:
            version: A published version; ObjectNotFoundError when it is not.
            at: Now (UTC).
            pin: Keeps it live when a newer version is published.
            tag: The pointer's tag as read by the caller; ObjectChangedError when it has moved since. None takes the
                tag of this moment.
        """
        manifest = self._store.read(f"{checked(version)}/{MANIFEST}").data
        pointer = Pointer(
            version=version, manifest_sha256=hashlib.sha256(manifest).hexdigest(), pinned=pin, activated_at=at
        )
        if tag is None:
            current = self.current()
            tag = current[1] if current else MISSING
        self._store.replace(POINTER, pointer.model_dump_json(indent=2).encode(), tag=tag)
        return pointer

    def versions(self) -> list[str]:
        """Return the published versions, newest first."""
        keys = (key.split("/") for key in self._store.list(""))
        return sorted((parts[0] for parts in keys if len(parts) == 2 and parts[1] == MANIFEST), reverse=True)

    def manifest(self, version: str) -> Manifest:
        """Return a version's manifest; ObjectNotFoundError when there is no such version."""
        return read_manifest(self._store.read(f"{checked(version)}/{MANIFEST}").data)

    def publish(self, folder: Path, manifest: Manifest) -> None:
        """Upload a written artefact, its manifest last; nothing is live before `activate`."""
        version = checked(manifest.version)
        for name in manifest.files:
            self._store.upload(folder / name, f"{version}/{name}")
        self._store.upload(folder / MANIFEST, f"{version}/{MANIFEST}")

    def fetch(self, pointer: Pointer, cache: Path) -> Path:
        """Return a local folder with the version's files, downloading what is not there yet.

        The folder appears whole or not at all. Contents are not checked here: `artefact.read` does that.
        ArtefactError when a file is missing or the manifest is not the one that was activated.
        """
        folder = cache / checked(pointer.version)
        if _digest_of(folder / MANIFEST) == pointer.manifest_sha256:
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{pointer.version}.", dir=cache) as temporary:
            partial = Path(temporary) / pointer.version
            partial.mkdir()
            self._download(pointer, partial)
            if _digest_of(folder / MANIFEST) != pointer.manifest_sha256:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                partial.replace(folder)
        return folder

    def _download(self, pointer: Pointer, folder: Path) -> None:
        for name in self._names(pointer):
            try:
                self._store.download(f"{pointer.version}/{name}", folder / name)
            except ObjectNotFoundError:
                raise ArtefactError("missing", f"{pointer.version}/{name} is not in the store") from None

    def _names(self, pointer: Pointer) -> Iterator[str]:
        try:
            data = self._store.read(f"{pointer.version}/{MANIFEST}").data
        except ObjectNotFoundError:
            raise ArtefactError("missing", f"{pointer.version}/{MANIFEST} is not in the store") from None
        if hashlib.sha256(data).hexdigest() != pointer.manifest_sha256:
            raise ArtefactError("checksum", f"{pointer.version}/{MANIFEST} is not the one that was activated")
        yield from (checked(name) for name in read_manifest(data).files)
        yield MANIFEST


def checked(name: str) -> str:
    """Return the name if it can be part of a key; ArtefactError otherwise, so that no name leaves its folder."""
    if not _VERSION.fullmatch(name):
        raise ArtefactError("name", f"{name!r} is not a valid name")
    return name


def _digest_of(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
