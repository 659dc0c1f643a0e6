"""A version made live by hand: back to an earlier model, or on to one that was held back."""

import hashlib
import tempfile
from datetime import datetime
from pathlib import Path

from recsvc.artefact import MANIFEST, ArtefactError, read
from recsvc.registry import Pointer, Registry, checked
from retrain.failure import Reason, RunFailure
from servicekit.objectstore import MISSING, ObjectChangedError, ObjectNotFoundError, ObjectStore


def activate_version(store: ObjectStore, version: str, *, pin: bool, now: datetime) -> Pointer:
    """Make a published version live after checking all of its files; RunFailure leaves the pointer where it was."""
    registry = Registry(store)
    try:
        current = registry.current()
        manifest = store.read(f"{checked(version)}/{MANIFEST}").data
        wanted = Pointer(
            version=version, manifest_sha256=hashlib.sha256(manifest).hexdigest(), pinned=pin, activated_at=now
        )
        with tempfile.TemporaryDirectory(prefix="activate-") as folder:
            read(registry.fetch(wanted, Path(folder)))
        return registry.activate(version, at=now, pin=pin, tag=current[1] if current else MISSING)
    except ObjectNotFoundError:
        raise RunFailure(Reason.PUBLISH, f"{store.url} holds no version {version}") from None
    except ArtefactError as error:
        raise RunFailure(Reason.ARTEFACT, f"{version} is not fit to be served: {error}") from None
    except ObjectChangedError:
        raise RunFailure(Reason.PUBLISH, "somebody else moved the pointer meanwhile; look, then try again") from None
