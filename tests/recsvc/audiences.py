"""Viewers for tests, kept in memory."""

from typing import Final

from recsvc.audience import Audience
from recsvc.journal import Journal
from recsvc.profiles import Profiles
from tests.recsvc.models import DATA_UNTIL

CUT_OFF_MS: Final = round(DATA_UNTIL.timestamp() * 1000)
NOW_MS: Final = CUT_OFF_MS + 3_600_000


def audience(journal: Journal | None = None, profiles: Profiles | None = None, now_ms: int = NOW_MS) -> Audience:
    """Return an audience whose clock stands an hour after the models' cut-off."""
    return Audience(profiles or Profiles(), journal, now_ms=lambda: now_ms)
