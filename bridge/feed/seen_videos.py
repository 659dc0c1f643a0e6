"""Remembers which videos users have seen lately, as far as this bridge knows: bounded, in memory."""

from collections.abc import Iterable, Sequence
from typing import Final

from bridge.domain.interaction import Interaction, InteractionType
from servicekit.bounded import BoundedTexts

MAX_BYTES: Final = 48 << 20
"""Of all users together: 50,000 users with 60 videos each, where ids have 11 characters."""
MAX_USERS: Final = 50_000
MAX_VIDEOS: Final = 200
"""Videos of one user, the latest."""
_SEPARATOR: Final = "\n"
"""Is in no identifier. One text for all of a user's videos takes a tenth of what an object for each would."""


class SeenVideos:
    """Remembers the videos of users; forgets the user first who was heard of longest ago.

    Args:
        users: Users at most.
        videos: Videos of each at most.
        max_bytes: Bytes of all at most.
    """

    def __init__(self, *, users: int = MAX_USERS, videos: int = MAX_VIDEOS, max_bytes: int = MAX_BYTES) -> None:
        self._max_videos = videos
        self._seen: BoundedTexts[str] = BoundedTexts(max_bytes, users)
        self._loaded: set[str] = set()

    def of(self, user_id: str) -> Sequence[str]:
        """Return the user's videos, earliest first."""
        videos = self._seen.get(user_id)
        return tuple(videos.split(_SEPARATOR)) if videos else ()

    def note(self, interaction: Interaction) -> None:
        """Add an interaction's video to those seen, except one opened from a search."""
        if interaction.interaction_type is not InteractionType.SEARCH:
            self.add(interaction.user_id, (interaction.video_id,))

    def add(self, user_id: str, video_ids: Iterable[str]) -> None:
        """Add videos, earliest first."""
        videos = dict.fromkeys(self.of(user_id))
        for video_id in video_ids:
            if video_id and _SEPARATOR not in video_id:
                videos.pop(video_id, None)
                videos[video_id] = None
        latest = [*videos][-self._max_videos :]
        self._loaded.difference_update(self._seen.set(user_id, _SEPARATOR.join(latest)))

    def load(self, user_id: str, video_ids: Iterable[str]) -> None:
        """Add a user's recorded videos, earliest first, before those known already."""
        known = self.of(user_id)
        self.add(user_id, [*video_ids, *known])
        self._loaded.add(user_id)

    def loaded(self, user_id: str) -> bool:
        """Return whether the user's recorded videos have been loaded."""
        return user_id in self._loaded
