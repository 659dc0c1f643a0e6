"""What users have seen lately."""

import tracemalloc
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.interaction import Interaction, InteractionType
from bridge.feed.seen_videos import SeenVideos


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=60))
def test_remembers_the_latest_of_the_latest(events: list[tuple[str, int]]) -> None:
    """At most 3 users and 4 videos of each are kept, and always those heard of last."""
    seen = SeenVideos(users=3, videos=4)
    for user, video in events:
        seen.add(user, [f"v{video}"])
    latest = list(dict.fromkeys(user for user, _ in reversed(events)))
    for user in "abcd":
        videos = list(dict.fromkeys(f"v{video}" for name, video in reversed(events) if name == user))
        kept = seen.of(user)
        assert set(kept) <= set(videos[:4])
        if user in latest[:3] and user not in latest[3:]:
            assert kept[-1] == videos[0]
        if user in latest[3:] or user not in latest:
            assert not kept


def test_searches_say_nothing() -> None:
    seen = SeenVideos()
    for kind in InteractionType:
        seen.note(
            Interaction(
                event_id=uuid4(),
                user_id="u1",
                video_id=f"v-{kind}",
                interaction_type=kind,
                occurred_at=datetime.now(UTC),
            )
        )
    assert set(seen.of("u1")) == {f"v-{kind}" for kind in InteractionType} - {"v-search"}


@pytest.mark.parametrize("character", ["a", "é", "視", "🎬"])
def test_the_bound_is_what_users_take(character: str) -> None:
    """However long the ids are that callers choose, in whatever script."""
    bound, length = 2 << 20, 128 // len(character.encode()) - 8
    tracemalloc.start()
    seen = SeenVideos(max_bytes=bound)
    for user in range(3000):
        seen.add(f"{character * length}{user:08}", [f"{character * length}{user + video:08}" for video in range(20)])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bound // 4 < taken < bound * 1.1
    assert seen.of(f"{character * length}{2999:08}")
    assert not seen.of(f"{character * length}{0:08}")
