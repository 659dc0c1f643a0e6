"""Publishes an immutable version to the store, and moves the pointer to it.

A version is called `<end of its data>-<digest of its recipe>-<digest of its files>`: names sort by age, the same work
is found again, and two runs whose models differ in a bit never write the same objects.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

from modelstore.artefact import MANIFEST, ArtefactError, Manifest, Model, read, write
from modelstore.registry import Pointer, Registry
from modelstore.signature import SigningKey
from retrain.errors import Reason, RunError
from retrain.recipe import DIGITS
from servicekit.storage.object_store import MISSING, ObjectChangedError, ObjectNotFoundError

REJECTED: Final = "rejected"
"""Folder of the store for reports of runs that published nothing."""
ATTEMPTS: Final = 5
"""Tries to move the pointer while others move it too."""


class Outcome(Enum):
    """Outcomes of a publication."""

    LIVE = "live"
    ALREADY_LIVE = "already live"
    PINNED = "published, but another version is pinned"
    NEWER_LIVE = "published, but a version with newer data is live"


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A version in the store."""

    version: str
    outcome: Outcome


def name_prefix(until: datetime, recipe: str) -> str:
    """Return the common beginning of the names of a recipe's versions."""
    return f"{until:%Y%m%dT%H%M%SZ}-{recipe}-"


def write_verified(model: Model, prefix: str, folder: Path) -> Manifest:
    """Write the model into an empty folder under its name, read it back, and return its manifest.

    Raises:
        RunError: What was read back is not fit to be served.
    """
    manifest = write(model, folder)
    files = "".join(f"{name} {entry.sha256}\n" for name, entry in sorted(manifest.files.items()))
    content = hashlib.sha256(files.encode()).hexdigest()[:DIGITS]
    manifest = manifest.model_copy(update={"version": prefix + content})
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    try:
        read(folder)
    except ArtefactError as error:
        raise RunError(Reason.ARTEFACT, f"the written model is not fit to be served: {error}") from None
    return manifest


def find_published(registry: Registry, prefix: str) -> str | None:
    """Return the newest complete version with this name prefix whose signature the registry trusts."""
    named = (version for version in registry.versions() if version.startswith(prefix))
    return next(filter(registry.trusts, named), None)


def live_version(registry: Registry) -> str | None:
    """Return the version that is live now; RunError when the pointer cannot be read."""
    try:
        current = registry.current()
    except ArtefactError as error:
        raise RunError(Reason.PUBLISH, f"the live pointer is broken: {error}") from None
    return current[0].version if current else None


def unfenced() -> None:
    """Accept every publication."""


def publish(
    registry: Registry,
    folder: Path,
    manifest: Manifest,
    *,
    now: datetime,
    key: SigningKey | None = None,
    fence: Callable[[], None] = unfenced,
) -> Publication:
    """Upload a written model unless the store has it, and make it live; RunError when others keep winning.

    Args:
        registry: Where to.
        folder: The model.
        manifest: Its manifest.
        now: The time (UTC).
        key: Signs it, unless None.
        fence: Raises right before the pointer moves when it may not.
    """
    if find_published(registry, manifest.version) is None:
        try:
            registry.publish(folder, manifest, key)
        except ObjectChangedError:
            # Another run gave it this name, so it has the same files; whether it is signed is another matter.
            if find_published(registry, manifest.version) is None:
                raise RunError(
                    Reason.PUBLISH,
                    f"{manifest.version} was published by another run, not signed by the same key, or not in full "
                    f"(`python -m retrain sign {manifest.version}` signs it after checking its files)",
                ) from None
    return activate(registry, manifest.version, now=now, fence=fence)


def activate(registry: Registry, version: str, *, now: datetime, fence: Callable[[], None] = unfenced) -> Publication:
    """Make a published version live, unless another one is pinned or has newer data."""
    for _ in range(ATTEMPTS):
        try:
            return Publication(version=version, outcome=_activate_once(registry, version, now, fence))
        except ObjectChangedError:
            continue  # somebody else moved the pointer: look again whether this version is still wanted
        except ArtefactError as error:
            raise RunError(Reason.PUBLISH, f"the live pointer is broken: {error}") from None
    raise RunError(Reason.PUBLISH, f"the live pointer changed {ATTEMPTS} times while {version} was to go live")


def _activate_once(registry: Registry, version: str, now: datetime, fence: Callable[[], None]) -> Outcome:
    current = registry.current()
    kept = _reason_to_keep(registry, current[0], version) if current else None
    if kept:
        return kept
    fence()
    registry.activate(version, at=now, tag=current[1] if current else MISSING)
    return Outcome.LIVE


def _reason_to_keep(registry: Registry, current: Pointer, version: str) -> Outcome | None:
    if current.version == version:
        return Outcome.ALREADY_LIVE
    if current.pinned:
        return Outcome.PINNED
    try:
        live = registry.manifest(current.version)
    except (ArtefactError, ObjectNotFoundError):
        return None  # what is live cannot be served, so anything is better
    return Outcome.NEWER_LIVE if live.data_until > registry.manifest(version).data_until else None
