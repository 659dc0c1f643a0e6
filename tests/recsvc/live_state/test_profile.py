import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.live_state.profile import (
    MAX_AT_MS,
    MAX_PER_USER,
    MAX_WATCH_MS,
    DamagedError,
    Profile,
    Row,
    row_of,
    updated,
    without,
)
from tests.recsvc.support.live_stores import row

ROWS = st.builds(
    row,
    st.integers(-(2**40), 2**40) | st.integers(0, 9),
    st.sampled_from(["v", "vidéo", "a-much-longer-name"]),
    st.integers(0, len(InteractionType) - 1),
    st.integers(0, 3) | st.just(MAX_WATCH_MS),
    st.sampled_from([-1.0, 0.0, 4.5]),
)
TOLD = st.lists(st.lists(ROWS, max_size=6), min_size=1, max_size=6)


def learnt(told: list[list[Row]], since_ms: int = -(2**60)) -> Profile | None:
    profile: Profile | None = None
    for number, rows in enumerate(told):
        profile = updated(profile, rows, updated_at_ms=number, since_ms=since_ms)
    return profile


def model(told: list[list[Row]]) -> list[Row]:
    """Return the same by lists: each once, oldest first, those of one instant as they were told."""
    return sorted(dict.fromkeys(one for rows in told for one in rows), key=lambda one: one[2])


@given(TOLD)
def test_a_profile_is_what_was_told_once_and_in_order(told: list[list[Row]]) -> None:
    profile = learnt(told)

    assert (profile.rows if profile else []) == model(told)
    if profile:
        assert len(profile) == len(profile.rows)
        assert (profile.oldest_at_ms, profile.newest_at_ms) == (profile.rows[0][2], profile.rows[-1][2])
        assert Profile(profile.packed).rows == profile.rows


@given(TOLD, st.integers(0, 9))
def test_what_is_too_old_goes(told: list[list[Row]], up_to_ms: int) -> None:
    profile = learnt(told)
    left = [one for one in model(told) if one[2] > up_to_ms]

    trimmed = without(profile, up_to_ms) if profile else None

    assert (trimmed.rows if trimmed else []) == left
    assert sorted(found.rows if (found := learnt(told, since_ms=up_to_ms)) else []) == sorted(left)


@given(TOLD.filter(any), st.data())
def test_checksums_notice_any_changed_byte(told: list[list[Row]], data: st.DataObject) -> None:
    profile = learnt(told)
    assert profile
    packed = bytearray(profile.packed)
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DamagedError):
        Profile(bytes(packed)).check()


@given(TOLD.filter(any), st.data())
def test_checksums_notice_a_missing_end(told: list[list[Row]], data: st.DataObject) -> None:
    profile = learnt(told)
    assert profile
    cut = data.draw(st.integers(0, len(profile.packed) - 1))

    with pytest.raises(DamagedError):
        Profile(profile.packed[:cut]).check()


@pytest.mark.parametrize("step", [1, 7, 400])
def test_only_the_newest_are_kept(step: int) -> None:
    moments = range(MAX_PER_USER + 500)
    told = [[row(at_ms) for at_ms in moments[start : start + step]] for start in range(0, len(moments), step)]

    profile = learnt(told)

    assert profile
    assert [one.at_ms for one in profile] == list(moments[-MAX_PER_USER:])
    assert profile.oldest_at_ms == moments[-MAX_PER_USER]


def test_older_ones_do_not_take_the_place_of_newer_ones() -> None:
    newest = [row(at_ms) for at_ms in range(1000, 1000 + MAX_PER_USER)]

    profile = learnt([newest, [row(at_ms) for at_ms in range(10)]])

    assert profile
    assert profile.rows == newest


@given(
    st.builds(
        Interaction,
        st.text(st.characters(exclude_categories=["C"]), min_size=1),
        st.sampled_from(InteractionType),
        st.integers(-MAX_AT_MS, MAX_AT_MS),
        st.integers(0, MAX_WATCH_MS),
        st.none() | st.floats(0, 5),
    )
)
def test_interactions_come_back(one: Interaction) -> None:
    profile = updated(None, [row_of(one)], updated_at_ms=1, since_ms=-(2**63))

    assert profile
    assert list(profile) == [one]
    assert one in profile


@pytest.mark.parametrize("number", [-(10**30), 10**30])
def test_numbers_that_no_row_can_hold_are_brought_between(number: int) -> None:
    profile = updated(
        None, [row_of(Interaction("v", InteractionType.LIKE, number, number))], updated_at_ms=1, since_ms=-(2**63)
    )

    assert profile
    (one,) = profile
    assert abs(one.at_ms) == MAX_AT_MS
    assert one.watch_ms in (0, MAX_WATCH_MS)
