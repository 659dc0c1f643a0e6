"""Changes the live model by hand: checks the pointer now, pins a version, or rolls back to one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import grpc
import structlog

from modelstore.artefact import ArtefactError, Manifest
from modelstore.registry import Pointer, Registry
from recsvc.rollout.listing import ModelListing, reaching_the_store
from recsvc.rollout.watcher import ModelWatcher
from servicekit.grpc.errors import ServiceError
from servicekit.storage.object_store import ObjectChangedError, ObjectNotFoundError

logger = structlog.get_logger(__name__)


class ModelActivation:
    """Moves the pointer, and makes its version live at once.

    Args:
        registry: Holds the pointer.
        watcher: Makes models live.
        inventory: Describes them.
        now: The time (UTC).
    """

    def __init__(
        self, registry: Registry, watcher: ModelWatcher, inventory: ModelListing, *, now: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._watcher = watcher
        self._inventory = inventory
        self._now = now

    def reload(self) -> tuple[Manifest, bool]:
        """Check the pointer; return the live model afterwards, and whether another one went live.

        ServiceError: FAILED_PRECONDITION when what the pointer names must not be served, UNAVAILABLE when the store
        cannot be reached or nothing is live.
        """
        with _mapped_errors():
            changed = self._watcher.look()
        return self._inventory.live(), changed

    def activate(self, version: str, *, pin: bool) -> Manifest:
        """Make a version live here and, as they look, on every replica; return it.

        A version that must not be served leaves the pointer where it was.

        ServiceError: NOT_FOUND, INVALID_ARGUMENT for what can be no version, ABORTED when somebody else moved the
        pointer meanwhile, and those of `reload`.
        """
        self._inventory.describe(version)
        with _mapped_errors():
            before = self._registry.current()
            ours = self._registry.activate(version, at=self._now(), pin=pin, tag=before[1] if before else None)
            try:
                self._watcher.look()
            except ArtefactError:
                if before:
                    self._put_back(before[0], ours)
                raise
        logger.info("model.activated", version=version, pinned=pin)
        return self._inventory.live()

    def _put_back(self, before: Pointer, ours: Pointer) -> None:
        """Move the pointer back, unless somebody else has moved it on."""
        current = self._registry.current()
        if current and current[0] == ours:
            self._registry.activate(before.version, at=self._now(), pin=before.pinned, tag=current[1])


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        with reaching_the_store():
            yield
    except ArtefactError as error:
        raise ServiceError(
            grpc.StatusCode.FAILED_PRECONDITION, "MODEL_REFUSED", f"the model must not be served: {error}"
        ) from None
    except ObjectNotFoundError:
        raise ServiceError(
            grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "the model is no longer in the store"
        ) from None
    except ObjectChangedError:
        raise ServiceError(
            grpc.StatusCode.ABORTED, "POINTER_MOVED", "another activation came first; call GetModel, then try again"
        ) from None
