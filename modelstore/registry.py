"""Keeps published models in an object store, and the one pointer that names the live model.

`<version>/…` holds a version's files, its manifest written last; every one of them is created and never replaced, so of
two publishers of one version one wins. `current.json` is the pointer, moved by compare-and-swap.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from modelstore.artefact import MANIFEST, ArtefactError, Manifest, digest, read_manifest
from modelstore.partial_folder import partial_folder
from modelstore.signature import SignatureError, SigningKey, Verifier, signature_name
from servicekit.storage.object_store import MISSING, ObjectChangedError, ObjectNotFoundError, ObjectStore

POINTER: Final = "current.json"
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")


class Pointer(BaseModel):
    """The pointer to the live version."""

    model_config = ConfigDict(frozen=True)

    version: str
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Part of the name of a file, so of no other form."""
    pinned: bool = False
    """A pinned version stays live when a newer one is published."""
    activated_at: AwareDatetime


class Registry:
    """The models of one store.

    Args:
        store: Where versions and the pointer stand.
        verifier: Knows whose models may be fetched; None takes anybody's.
    """

    def __init__(self, store: ObjectStore, verifier: Verifier | None = None) -> None:
        self._store = store
        self._verifier = verifier

    def trust(self, verifier: Verifier) -> None:
        """Verify signatures by these keys from now on; downloaded models stay."""
        self._verifier = verifier

    def current(self) -> tuple[Pointer, str] | None:
        """Return the pointer and its tag for `activate`; None before the first one; ArtefactError when broken."""
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
        """Return a version's manifest; ObjectNotFoundError if the version does not exist."""
        return read_manifest(self._store.read(f"{checked(version)}/{MANIFEST}").data)

    def publish(self, folder: Path, manifest: Manifest, key: SigningKey | None = None) -> None:
        """Upload a written artefact, its manifest last; only `activate` makes it live.

        What is there already with the same content, of an upload that was cut short, stays; ObjectChangedError when
        another publisher gave the version another content.

        Args:
            folder: The artefact.
            manifest: Its manifest.
            key: Signs it, unless None.
        """
        version = checked(manifest.version)
        # In one order for all publishers: the first file that differs stops all but one of them.
        for name in sorted(manifest.files):
            self._create(folder / name, f"{version}/{name}")
        if key:
            self._sign(version, (folder / MANIFEST).read_bytes(), key)
        self._create(folder / MANIFEST, f"{version}/{MANIFEST}")

    def sign(self, version: str, key: SigningKey) -> None:
        """Sign a published version without reading its files; ObjectNotFoundError if it does not exist."""
        self._sign(version, self._store.read(f"{checked(version)}/{MANIFEST}").data, key)

    def fetch(self, pointer: Pointer, cache: Path) -> Path:
        """Return a local folder with the version's files; download the missing ones.

        The folder appears whole or not at all, and only with a signature that the verifier knows. The files' contents
        are not checked here: `artefact.read` does that. ArtefactError when a file is missing, the manifest is not the
        one that was activated, or the signature is not good.
        """
        folder = cache / checked(pointer.version)
        if _digest_of(folder / MANIFEST) != pointer.manifest_sha256:
            self._download(pointer, cache)
        else:
            self._check((folder / MANIFEST).read_bytes(), _content(folder / signature_name(pointer.manifest_sha256)))
        return folder

    def trusts(self, version: str) -> bool:
        """Return whether a version's signature is trusted."""
        manifest = self._store.read(f"{checked(version)}/{MANIFEST}").data
        try:
            self._check(manifest, self._signature(version, hashlib.sha256(manifest).hexdigest()))
        except ArtefactError:
            return False
        return True

    def _check(self, manifest: bytes, signature: bytes | None) -> None:
        if self._verifier:
            try:
                self._verifier.check(manifest, signature)
            except SignatureError as error:
                raise ArtefactError("signature", str(error)) from None

    def _create(self, path: Path, key: str) -> None:
        try:
            self._store.create(path, key)
        except ObjectChangedError:
            if not self._holds(path, key):
                raise

    def _holds(self, path: Path, key: str) -> bool:
        """Return whether the store holds the same bytes already."""
        with tempfile.TemporaryDirectory(prefix="published-") as folder:
            published = Path(folder) / "object"
            try:
                self._store.download(key, published)
            except ObjectNotFoundError:  # another publisher's upload, which did not come to its end
                return False
            return digest(published) == digest(path)

    def _sign(self, version: str, manifest: bytes, key: SigningKey) -> None:
        """Write the signature, and replace one by another key."""
        name = f"{version}/{signature_name(hashlib.sha256(manifest).hexdigest())}"
        with tempfile.TemporaryDirectory(prefix="signed-") as folder:
            written = Path(folder) / "signature"
            written.write_bytes(key.sign(manifest))
            self._store.upload(written, name)

    def _download(self, pointer: Pointer, cache: Path) -> None:
        folder = cache / pointer.version
        cache.mkdir(parents=True, exist_ok=True)
        with partial_folder(cache) as temporary:
            partial = temporary / pointer.version
            partial.mkdir()
            for name in self._names(pointer):
                try:
                    self._store.download(f"{pointer.version}/{name}", partial / name)
                except ObjectNotFoundError:
                    raise ArtefactError("missing", f"{pointer.version}/{name} is not in the store") from None
            if _digest_of(folder / MANIFEST) != pointer.manifest_sha256:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                partial.replace(folder)

    def _names(self, pointer: Pointer) -> Iterator[str]:
        """Yield the names of the files to download, once the manifest and its signature are verified."""
        try:
            data = self._store.read(f"{pointer.version}/{MANIFEST}").data
        except ObjectNotFoundError:
            raise ArtefactError("missing", f"{pointer.version}/{MANIFEST} is not in the store") from None
        if hashlib.sha256(data).hexdigest() != pointer.manifest_sha256:
            raise ArtefactError("checksum", f"{pointer.version}/{MANIFEST} is not the one that was activated")
        if self._verifier:
            self._check(data, self._signature(pointer.version, pointer.manifest_sha256))
            yield signature_name(pointer.manifest_sha256)
        yield from (checked(name) for name in read_manifest(data).files)
        yield MANIFEST

    def _signature(self, version: str, manifest_sha256: str) -> bytes | None:
        try:
            return self._store.read(f"{version}/{signature_name(manifest_sha256)}").data
        except ObjectNotFoundError:
            return None


def checked(name: str) -> str:
    """Return the name if it can be part of a key; ArtefactError otherwise, so that no name leaves its folder."""
    if not _VERSION.fullmatch(name):
        raise ArtefactError("name", f"{name!r} is not a valid name")
    return name


def _digest_of(path: Path) -> str | None:
    data = _content(path)
    return None if data is None else hashlib.sha256(data).hexdigest()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
