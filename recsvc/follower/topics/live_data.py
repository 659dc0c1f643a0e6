"""The facts about this machine's live model that the follower needs: the end of its data, and the videos' lengths."""

from typing import Final

import structlog

from modelstore.artefact import MANIFEST, ArtefactError, Manifest, read_manifest
from modelstore.artefact_arrays import Arrays
from modelstore.id_map import UNKNOWN, IdMap
from modelstore.registry import Pointer, checked
from recsvc.follower.topics.gathering import UNKNOWN_MS
from recsvc.local_files.model_cache import ModelCache
from servicekit.bounded import BoundedMap

REMEMBERED: Final = 50_000
"""Videos whose lengths are at hand; to find one in the model takes several times as long."""

logger = structlog.get_logger(__name__)


class LiveData:
    """Follows the note of the model that went live last, which workers write; nothing is fetched.

    Args:
        cache: Local copies of models.
    """

    def __init__(self, cache: ModelCache) -> None:
        self._cache = cache
        self._pointer: Pointer | None = None
        self._lengths = _Lengths()
        self.cut_off_ms: int | None = None
        """The first instant that the model's data do not cover, milliseconds since 1970 UTC; None while no model is."""

    def look(self) -> None:
        """Read the note again, and change to the model that it names."""
        pointer = self._cache.last()
        if pointer is None or pointer == self._pointer:
            return
        try:
            folder = self._cache.folder / checked(pointer.version)
            manifest = read_manifest((folder / MANIFEST).read_bytes())
            arrays = Arrays(folder, manifest.files, checked=True)
            self._lengths = _Lengths(manifest, arrays)
        except (
            ArtefactError,
            OSError,
        ) as error:  # it was replaced at this moment, or is damaged: workers will see to it
            logger.warning("live.model_not_read", version=pointer.version, problem=str(error))
            return
        self.cut_off_ms = round(manifest.data_until.timestamp() * 1000)
        self._pointer = pointer

    def duration_ms(self, video_id: str) -> int:
        """Return a video's length, -1 where unknown."""
        return self._lengths.of(video_id)


class _Lengths:
    """The lengths of one model's videos, mapped from its files."""

    def __init__(self, manifest: Manifest | None = None, arrays: Arrays | None = None) -> None:
        self._found: BoundedMap[str, int] = BoundedMap(REMEMBERED)
        self._videos = self._durations_ms = None
        if manifest and arrays:
            self._videos = IdMap(arrays.ids("videos", manifest.video_count))
            self._durations_ms = arrays.integers("durations_ms", manifest.video_count)

    def of(self, video_id: str) -> int:
        found = self._found.get(video_id)
        if found is None:
            found = self._look_up(video_id)
            self._found.put(video_id, found)
        return found

    def _look_up(self, video_id: str) -> int:
        if self._videos is None or self._durations_ms is None:
            return UNKNOWN_MS
        row = self._videos.row(video_id)
        return UNKNOWN_MS if row == UNKNOWN else int(self._durations_ms[row])
