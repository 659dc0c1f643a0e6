"""Swaps models: downloads, checks, loads and exchanges them."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from modelstore.artefact import ArtefactError, read
from modelstore.registry import Pointer
from recsvc.local_files.model_cache import ModelCache
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.rollout.acceptance_checks import check_folder
from recsvc.rollout.check_in_subprocess import check_in_subprocess

DAMAGED: Final = frozenset({"manifest", "signature", "missing", "size", "checksum"})
"""Reasons to refuse a local copy that a fresh one may mend."""
GIL_SWITCH_S: Final = 0.0005


class ModelSwap:
    """Makes models live.

    Args:
        cache: Keeps local copies of them.
        live: Receives them.
    """

    def __init__(self, cache: ModelCache, live: LiveModel) -> None:
        self._cache = cache
        self._live = live

    def make_live(self, pointer: Pointer) -> ServingModel:
        """Make the model of a pointer live, and return it; on ArtefactError the old one stays.

        A damaged local copy is replaced by a fresh one, once. Processes take turns.
        """
        with self._cache.turn():
            try:
                return self._swap(pointer)
            except ArtefactError as error:
                if error.reason not in DAMAGED or not self._cache.discard(pointer):
                    raise
            try:
                return self._swap(pointer)
            except ArtefactError:
                self._cache.discard(pointer)
                raise

    def _swap(self, pointer: Pointer) -> ServingModel:
        folder = self._cache.download(pointer)
        if self._live.peek():
            check_in_subprocess(folder)
            serving = load(folder)
        else:  # no call waits for this process
            serving = check_folder(folder)
        self._live.swap(serving)
        return serving


def load(folder: Path) -> ServingModel:
    """Return the model in a folder that another process has checked: its files are only mapped."""
    with _short_turns():
        return ServingModel.of(replace(read(folder, checked=True), folder=folder))


def settle_memory() -> None:
    """Exclude the objects that exist now from garbage collections: they live on."""
    gc.collect()
    gc.freeze()


@contextmanager
def _short_turns() -> Iterator[None]:
    """Shorten the turns of this thread to a tenth, for the threads that serve."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(GIL_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
