"""Users for tests, kept in memory."""

from typing import Final

from recsvc.profile_log.log import ProfileLog
from recsvc.users.directory import UserDirectory
from recsvc.users.profiles import Profiles
from tests.recsvc.support.models import DATA_UNTIL

CUT_OFF_MS: Final = round(DATA_UNTIL.timestamp() * 1000)
NOW_MS: Final = CUT_OFF_MS + 3_600_000


def audience(
    journal: ProfileLog | None = None, profiles: Profiles | None = None, now_ms: int = NOW_MS
) -> UserDirectory:
    """Return an audience whose clock stands an hour after the models' cut-off."""
    return UserDirectory(profiles or Profiles(), journal, now_ms=lambda: now_ms)
