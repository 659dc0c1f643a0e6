"""What viewers have seen lately, as far as this bridge knows: bounded, in memory."""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from bridge.interaction import Interaction, InteractionType

MAX_VIEWERS: Final = 50_000
MAX_VIDEOS: Final = 200
"""Videos of one viewer, the latest."""


class SeenVideos:
    """Remembers the videos that viewers dealt with; the viewer heard of longest ago is forgotten first.

    Args:
        viewers: Viewers at most.
        videos: Videos of each at most.
    """

    def __init__(self, *, viewers: int = MAX_VIEWERS, videos: int = MAX_VIDEOS) -> None:
        self._most_viewers = viewers
        self._most_videos = videos
        self._seen: OrderedDict[str, dict[str, None]] = OrderedDict()
        self._loaded: set[str] = set()

    def of(self, user_id: str) -> Sequence[str]:
        """Return the viewer's videos, earliest first."""
        videos = self._seen.get(user_id)
        return tuple(videos) if videos else ()

    def note(self, interaction: Interaction) -> None:
        """Take in that a viewer has dealt with a video; opening one from a search says nothing of the feed."""
        if interaction.interaction_type is not InteractionType.SEARCH:
            self.add(interaction.user_id, (interaction.video_id,))

    def add(self, user_id: str, video_ids: Iterable[str]) -> None:
        """Take in videos, earliest first."""
        videos = self._seen.setdefault(user_id, {})
        self._seen.move_to_end(user_id)
        for video_id in video_ids:
            videos.pop(video_id, None)
            videos[sys.intern(video_id)] = None  # many viewers have seen the same video: one string for all
        while len(videos) > self._most_videos:
            del videos[next(iter(videos))]
        while len(self._seen) > self._most_viewers:
            forgotten, _ = self._seen.popitem(last=False)
            self._loaded.discard(forgotten)

    def load(self, user_id: str, video_ids: Iterable[str]) -> None:
        """Take in what was recorded of a viewer, earliest first; what is known already is later."""
        known = self.of(user_id)
        self.add(user_id, [*video_ids, *known])
        self._loaded.add(user_id)

    def loaded(self, user_id: str) -> bool:
        """Return whether what was recorded of the viewer has been taken in."""
        return user_id in self._loaded
