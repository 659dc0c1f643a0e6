"""Users for tests, in a store of their own."""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recsvc.live_state.store import LiveStore
from recsvc.profile_updates.recorder import ProfileRecorder
from recsvc.users.directory import UserDirectory
from tests.recsvc.support.models import DATA_UNTIL
from tests.recsvc.support.stores import prepared

CUT_OFF_MS: Final = round(DATA_UNTIL.timestamp() * 1000)
NOW_MS: Final = CUT_OFF_MS + 3_600_000


def directory(
    store: LiveStore | None = None,
    *,
    now_ms: Callable[[], int] = lambda: NOW_MS,
    share: Callable[[bytes, int], None] | None = None,
) -> UserDirectory:
    """Return a directory whose clock stands an hour after the models' cut-off, in an empty store by default."""
    if store is not None:
        return UserDirectory(store, ProfileRecorder(store, share=share), now_ms=now_ms)
    folder = Path(tempfile.mkdtemp(prefix="directory-"))
    users = directory(prepared(folder), now_ms=now_ms, share=share)
    weakref.finalize(users, shutil.rmtree, folder, ignore_errors=True)
    return users
