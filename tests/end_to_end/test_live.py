"""What a user does through the bridge changes what recsvc ranks next."""

from typing import Any
from uuid import uuid4

from tests.support.polling import wait_for
from tests.support.system import System


def ids(page: dict[str, Any]) -> list[str]:
    return [video["video_id"] for video in page.get("videos", [])]


def test_the_next_page_follows_from_what_was_liked_a_moment_ago(system: System) -> None:
    """From the bridge through Kafka to recsvc: folded in, what was liked is not shown again."""
    user = f"new-{uuid4()}"
    before = system.recommend(user_id=user).message
    assert before["user_state"] == "USER_STATE_COLD"
    liked = ids(before)[0]

    acknowledged = system.record(user_id=user, video_id=liked, interaction_type="INTERACTION_TYPE_LIKE")
    assert acknowledged.message

    def folded_in() -> dict[str, Any]:
        page: dict[str, Any] = system.recommend(user_id=user).message
        return page if page["user_state"] == "USER_STATE_FOLDED_IN" else {}

    after = wait_for(folded_in, what="the user folded in")
    assert liked not in ids(after)
    assert ids(after) != ids(before)[1:]
