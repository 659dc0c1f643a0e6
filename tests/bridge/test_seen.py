"""What viewers have seen lately."""

from datetime import UTC, datetime
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from bridge.interaction import Interaction, InteractionType
from bridge.seen import SeenVideos


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=60))
def test_remembers_the_latest_of_the_latest(events: list[tuple[str, int]]) -> None:
    """At most 3 viewers and 4 videos of each are kept, and always those heard of last."""
    seen = SeenVideos(viewers=3, videos=4)
    for viewer, video in events:
        seen.add(viewer, [f"v{video}"])
    latest = list(dict.fromkeys(viewer for viewer, _ in reversed(events)))
    for viewer in "abcd":
        videos = list(dict.fromkeys(f"v{video}" for name, video in reversed(events) if name == viewer))
        kept = seen.of(viewer)
        assert set(kept) <= set(videos[:4])
        if viewer in latest[:3] and viewer not in latest[3:]:
            assert kept[-1] == videos[0]
        if viewer in latest[3:] or viewer not in latest:
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
