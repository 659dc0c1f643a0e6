import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.users.profiles import BYTES_EACH, Profile, Profiles, fingerprint


def at(*moments: int) -> list[Interaction]:
    return [Interaction(f"v{moment}", InteractionType.LIKE, moment) for moment in moments]


def moments(profile: Profile | None) -> list[int]:
    return [one.at_ms for one in profile] if profile else []


def test_interactions_stand_in_the_order_of_their_time_and_once() -> None:
    profiles = Profiles()
    profiles.add("u", at(3, 1), now_ms=10)
    profiles.add("u", at(2, 3), now_ms=11)

    profile = profiles.get("u")

    assert moments(profile) == [1, 2, 3]
    assert profile is not None
    assert profile.updated_at_ms == 11


def test_a_repeated_delivery_changes_nothing() -> None:
    profiles = Profiles()
    first = profiles.add("u", at(1, 2), now_ms=10)

    again = profiles.add("u", at(2, 1), now_ms=99)

    assert first is not None
    assert again is not None
    assert again.packed is first.packed
    assert (list(again), again.updated_at_ms) == (at(1, 2), 10)


@given(
    st.lists(
        st.builds(
            Interaction,
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
            st.sampled_from(InteractionType),
            st.integers(-(2**61), 2**61),
            st.integers(0, 2**53),
            st.none() | st.floats(0, 5),
        ),
        min_size=1,
    )
)
def test_a_profile_is_what_was_told(done: list[Interaction]) -> None:
    profile = Profiles().add("u", done, now_ms=7)

    assert profile is not None
    assert tuple(profile) == tuple(sorted(dict.fromkeys(done), key=lambda one: one.at_ms))
    assert {type(one.kind) for one in profile} == {InteractionType}
    assert len(profile) == len(set(done))
    assert profile.oldest_at_ms == min(one.at_ms for one in done)
    assert all(one in profile for one in done)


def test_what_is_kept_does_not_hold_up_the_garbage_collector() -> None:
    """Ten thousand interactions as objects would be as many objects to look at."""
    profiles = Profiles()
    gc.collect()
    before = len(gc.get_objects())
    for moment in range(10_000):
        profiles.add(f"u{moment % 1000}", at(moment), now_ms=0)

    gc.collect()
    assert len(gc.get_objects()) - before < 1000


def test_of_a_user_with_100_000_interactions_the_newest_are_kept() -> None:
    profiles = Profiles(most_a_user=1000)
    for begin in range(0, 100_000, 5000):
        profiles.add("u", at(*range(begin, begin + 5000)), now_ms=0)

    assert moments(profiles.get("u")) == list(range(99_000, 100_000))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=80), st.integers(1, 20))
def test_memory_is_bounded_and_goes_to_who_was_active_last(done: list[tuple[int, int]], most: int) -> None:
    profiles = Profiles(most=most, most_a_user=5)
    for user, moment in done:
        profiles.add(f"u{user}", at(moment), now_ms=0)

    held = [len(moments(profiles.get(f"u{user}"))) for user in range(10)]
    assert sum(held) <= most
    assert max(held, default=0) <= 5
    if done and most >= 5:
        assert profiles.get(f"u{done[-1][0]}") is not None


def test_who_is_forgotten_stays_forgotten_when_old_news_arrives_late() -> None:
    profiles = Profiles()
    profiles.add("u", at(1, 2), now_ms=5)
    profiles.forget(fingerprint("u"), at_ms=6, user_id="u")

    assert profiles.add("u", at(1, 5, 6), now_ms=7) is None
    assert profiles.is_forgotten("u")
    assert moments(profiles.add("u", at(7), now_ms=8)) == [7]
    assert profiles.is_forgotten("u"), "what models know must not come back"


def test_times_before_1970_are_times() -> None:
    profiles = Profiles()
    profiles.add("u", at(-5), now_ms=1)
    profiles.add("u", at(-7), now_ms=1)

    assert moments(profiles.get("u")) == [-7, -5]


@pytest.mark.parametrize("user_id", ["u", None])
def test_others_are_not_forgotten(user_id: str | None) -> None:
    """Also where only the fingerprint is known, as after a restart."""
    profiles = Profiles()
    for name in ("u", "w"):
        profiles.add(name, at(1), now_ms=1)

    profiles.forget(fingerprint("u"), at_ms=6, user_id=user_id)

    assert profiles.get("u") is None
    assert moments(profiles.get("w")) == [1]
    assert not profiles.is_forgotten("w")


def test_memory_is_bounded_however_long_the_identifiers_are() -> None:
    most = 2_000
    profiles = Profiles(most=most)
    tracemalloc.start()
    for number in range(3 * most):
        video = "\N{SNOWMAN}" * 42
        profiles.add(
            f"{number:06}" + "\N{SNOWMAN}" * 40, [Interaction(video, InteractionType.LIKE, number)], now_ms=number
        )
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"*/{part}/*") for part in ("recsvc", "servicekit")]
    traces = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")  # none of other tests' threads
    tracemalloc.stop()
    held = sum(one.size for one in traces)

    assert 0 < len(profiles) < most
    assert held < most * BYTES_EACH
    assert profiles.get(f"{3 * most - 1:06}" + "\N{SNOWMAN}" * 40) is not None
