"""Lists the models of a registry, and which one is live."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import grpc
import structlog

from modelstore.artefact import ArtefactError, Manifest
from modelstore.registry import Registry, checked
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from servicekit.grpc.errors import ServiceError, Violation, invalid_argument, not_found, unavailable
from servicekit.storage.object_store import ObjectChangedError, ObjectNotFoundError

logger = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 1.0
RECALL: Final = "retrieval.recall@20"
_KEPT: Final = 256


class ModelListing:
    """Describes the models of a registry.

    Args:
        registry: The published models.
        live: The model that answers.
    """

    def __init__(self, registry: Registry, live: LiveModel) -> None:
        self._registry = registry
        self._live = live
        # Published manifests never change.
        self._manifest = lru_cache(_KEPT)(registry.manifest)

    def live(self) -> Manifest:
        """Return the live model's manifest; UNAVAILABLE if no model is live."""
        return _measured(self._live.get())

    def is_live(self, manifest: Manifest) -> bool:
        """Return whether this server answers with that model now."""
        serving = self._live.peek()
        return serving is not None and serving.manifest.version == manifest.version

    def describe(self, version: str) -> Manifest:
        """Return a version's manifest; NOT_FOUND, or INVALID_ARGUMENT for a name that no version can have."""
        serving = self._live.peek()
        if serving is not None and serving.manifest.version == version:
            return _measured(serving)
        try:
            checked(version)
        except ArtefactError as error:
            raise invalid_argument(Violation("version", str(error))) from None
        return self._read(version)

    def page(self, count: int, before: str) -> tuple[Sequence[Manifest], str]:
        """Return the next `count` models, newest first, that sort below `before` (empty: all), and the next `before`.

        A model whose manifest cannot be read is left out.
        """
        versions = [version for version in self._versions() if not before or version < before]
        chosen = versions[:count]
        with reaching_the_store():
            manifests = [one for one in map(self._readable, chosen) if one]
        return manifests, chosen[-1] if len(versions) > count else ""

    def _versions(self) -> list[str]:
        with reaching_the_store():
            return self._registry.versions()

    def _readable(self, version: str) -> Manifest | None:
        try:
            return self._manifest(version)
        except (ArtefactError, ObjectNotFoundError):
            return None

    def _read(self, version: str) -> Manifest:
        try:
            with reaching_the_store():
                return self._manifest(version)
        except ObjectNotFoundError:
            raise not_found("model", version) from None
        except ArtefactError as error:
            raise ServiceError(
                grpc.StatusCode.DATA_LOSS, "MODEL_BROKEN", f"model {version!r} cannot be read: {error}"
            ) from None


def _measured(serving: ServingModel) -> Manifest:
    """Return the manifest with the measurements that this server made when it loaded the model."""
    metrics = serving.manifest.metrics | {RECALL: serving.ranker.recall}
    return serving.manifest.model_copy(update={"metrics": metrics})


@contextmanager
def reaching_the_store() -> Iterator[None]:
    """Convert errors of a store that cannot be reached to UNAVAILABLE."""
    try:
        yield
    except (ArtefactError, ObjectNotFoundError, ObjectChangedError):
        raise
    except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own
        logger.warning("store.read_failed", problem=f"{type(error).__name__}: {error}")
        raise unavailable("STORE_UNAVAILABLE", "the model store cannot be read", retry_after_s=RETRY_AFTER_S) from None
