"""Activates and signs versions by hand: an earlier model, or one that was held back."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from modelstore.artefact import MANIFEST, ArtefactError, read
from modelstore.registry import Pointer, Registry, checked
from modelstore.signature import SigningKey, Verifier
from retrain.errors import Reason, RunError
from servicekit.storage.object_store import MISSING, ObjectChangedError, ObjectNotFoundError, ObjectStore


def activate_version(
    store: ObjectStore, version: str, *, pin: bool, now: datetime, verifier: Verifier | None = None
) -> Pointer:
    """Make a published version live after checking all of its files; on RunError the pointer stays."""
    registry = Registry(store, verifier)
    with _told(store, version):
        current = registry.current()
        _check_files(registry, store, version, now)
        return registry.activate(version, at=now, pin=pin, tag=current[1] if current else MISSING)


def sign_version(store: ObjectStore, version: str, *, key: SigningKey, now: datetime) -> None:
    """Sign a published version after checking all of its files; on RunError it stays as it was."""
    registry = Registry(store)
    with _told(store, version):
        _check_files(registry, store, version, now)
        registry.sign(version, key)


def _check_files(registry: Registry, store: ObjectStore, version: str, now: datetime) -> None:
    manifest = store.read(f"{checked(version)}/{MANIFEST}").data
    wanted = Pointer(version=version, manifest_sha256=hashlib.sha256(manifest).hexdigest(), activated_at=now)
    with tempfile.TemporaryDirectory(prefix="checked-") as folder:
        read(registry.fetch(wanted, Path(folder)))


@contextmanager
def _told(store: ObjectStore, version: str) -> Iterator[None]:
    try:
        yield
    except ObjectNotFoundError:
        raise RunError(Reason.PUBLISH, f"{store.url} holds no version {version}") from None
    except ArtefactError as error:
        raise RunError(Reason.ARTEFACT, f"{version} is not fit to be served: {error}") from None
    except ObjectChangedError:
        raise RunError(
            Reason.PUBLISH, "another program moved the pointer meanwhile; check the live version, then try again"
        ) from None
