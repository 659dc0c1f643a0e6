"""Computes which videos a request's filter allows, as boolean masks over the rows of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import Catalogue
from modelstore.id_map import UNKNOWN, IdMap

CACHE_BYTES: Final = 32 * 2**20
"""Memory for the masks of one model; a mask takes one byte a video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFilter:
    """Conditions combined with AND; an empty tuple or None does not restrict.

    A video of unknown duration or date fails a condition on it; one without tags or author fails `any`, not `none`.
    """

    any_tags: tuple[str, ...] = ()
    none_tags: tuple[str, ...] = ()
    any_author_ids: tuple[str, ...] = ()
    none_author_ids: tuple[str, ...] = ()
    min_duration_ms: int | None = None
    max_duration_ms: int | None = None
    published_after_ms: int | None = None
    """Milliseconds since 1970 UTC; the videos kept are strictly later."""


class FilterMasks:
    """Answers filters over one catalogue; the masks of recent filters are kept, within `CACHE_BYTES`."""

    def __init__(self, catalogue: Catalogue) -> None:
        entries = max(1, min(1024, CACHE_BYTES // max(1, len(catalogue.author_rows))))
        # Not of a method of this object: a cycle of references would keep every model that ever was live.
        self.blocked = lru_cache(entries)(partial(_blocked, catalogue))
        """Return the mask of the videos that a filter drops, (V,) bool, read-only."""


def _blocked(catalogue: Catalogue, condition: VideoFilter) -> NDArray[np.bool_]:
    blocked = np.zeros(len(catalogue.author_rows), np.bool_)
    if condition.any_tags:
        blocked |= ~_tagged(catalogue, condition.any_tags)
    if condition.none_tags:
        blocked |= _tagged(catalogue, condition.none_tags)
    if condition.any_author_ids:
        blocked |= ~_authored(catalogue, condition.any_author_ids)
    if condition.none_author_ids:
        blocked |= _authored(catalogue, condition.none_author_ids)
    _block_outside(blocked, catalogue.durations_ms, condition.min_duration_ms, condition.max_duration_ms)
    if condition.published_after_ms is not None:
        _block_outside(blocked, catalogue.published_at_ms, condition.published_after_ms + 1, None)
    blocked.setflags(write=False)
    return blocked


def _tagged(catalogue: Catalogue, tags: Sequence[str]) -> NDArray[np.bool_]:
    """Return which videos bear one of the tags, in one pass over all tags of all videos."""
    lists = catalogue.tag_rows
    hits = np.flatnonzero(_chosen(catalogue.tags, tags)[lists.rows])
    tagged = np.zeros(len(lists), np.bool_)
    tagged[np.searchsorted(lists.offsets, hits, side="right") - 1] = True
    return tagged


def _authored(catalogue: Catalogue, authors: Sequence[str]) -> NDArray[np.bool_]:
    """Return which videos are by one of the authors; -1, an unknown author, reads the table's last entry."""
    return _chosen(catalogue.authors, authors)[catalogue.author_rows]


def _chosen(ids: IdMap, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows are named, (n + 1,) bool, the last one False."""
    table = np.zeros(len(ids) + 1, np.bool_)
    rows = ids.rows(names)
    table[rows[rows != UNKNOWN]] = True
    return table


def _block_outside(blocked: NDArray[np.bool_], values: NDArray[np.int64], low: int | None, high: int | None) -> None:
    """Block in place the rows whose value is unknown or outside of low..high, unless both bounds are None."""
    if low is None and high is None:
        return
    blocked |= values < max(0, low or 0)
    if high is not None:
        blocked |= values > high
