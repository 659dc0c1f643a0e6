import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import User, UserState
from recsvc.live_state.environment import PROFILES
from recsvc.live_state.store import LiveStore
from recsvc.model.serving_model import ServingModel
from recsvc.profile_updates.recorder import Durability
from recsvc.users.directory import ProfileSummary
from recsvc.users.folded_users import FoldedUsers
from servicekit.grpc.errors import ServiceError
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.directories import CUT_OFF_MS, NOW_MS, directory
from tests.recsvc.support.models import random_model
from tests.recsvc.support.stores import prepared

OLD, NEW = (ServingModel.of(random_model(seed, version=f"{seed}")) for seed in (1, 2))


def like(name: str, at_ms: int = CUT_OFF_MS) -> Interaction:
    return Interaction(name, InteractionType.LIKE, at_ms)


def names(serving: ServingModel, rows: NDArray[np.int32]) -> set[str]:
    return set(serving.model.videos.ids(rows))


def vector(user: User) -> NDArray[np.float32]:
    assert user.vector is not None
    return user.vector


def summarised(summary: ProfileSummary | None) -> ProfileSummary:
    assert summary is not None
    return summary


def test_a_stranger_is_folded_in_and_what_was_done_counts_as_seen() -> None:
    users = directory()
    users.update("new", [like("v3"), like("unknown")])

    user = users.user(OLD, "new")

    assert user.state is UserState.FOLDED_IN
    assert names(OLD, user.seen) == {"v3"}
    assert user.bias == 0


def test_mere_impressions_leave_a_stranger_cold_but_are_not_shown_again() -> None:
    users = directory()
    users.update("new", [Interaction("v3", InteractionType.IMPRESSION, CUT_OFF_MS)])

    user = users.user(OLD, "new")

    assert (user.state, user.vector) == (UserState.COLD, None)
    assert names(OLD, user.seen) == {"v3"}


def test_a_trained_user_keeps_what_training_knew() -> None:
    users, trained = directory(), OLD.user("u1")
    users.update("u1", [like("v3")])

    user = users.user(OLD, "u1")

    assert user.state is UserState.FOLDED_IN
    assert set(user.seen.tolist()) == {*trained.seen.tolist(), OLD.model.videos.row("v3")}
    assert user.bias == trained.bias
    assert not np.array_equal(vector(user), vector(trained))


def test_what_training_had_is_not_counted_twice() -> None:
    """A trained user's interactions of before the cut-off count as seen only; a stranger's count fully."""
    users = directory()
    for name in ("u1", "new"):
        users.update(name, [like("v3", CUT_OFF_MS - 1)])

    assert users.user(OLD, "u1").state is UserState.TRAINED
    assert "v3" in names(OLD, users.user(OLD, "u1").seen)
    assert users.user(OLD, "new").state is UserState.FOLDED_IN
    assert [summarised(users.summary(OLD, name)).interaction_count for name in ("u1", "new")] == [0, 1]


def test_users_are_folded_anew_into_the_next_model() -> None:
    users = directory()
    users.update("new", [like("v3")])

    vectors = [vector(users.user(serving, "new")) for serving in (OLD, NEW, OLD)]

    assert vectors[0].tolist() == vectors[2].tolist() == pytest.approx(OLD.fold_in.fold([like("v3")]))
    assert vectors[1].tolist() == pytest.approx(NEW.fold_in.fold([like("v3")]))


def test_users_of_earlier_models_are_let_go() -> None:
    """Each would keep its model in memory."""
    users = directory()
    for serving, count in ((OLD, 20), (NEW, 3)):
        for index in range(count):
            users.update(f"{count}-{index}", [like("v3")])
            users.user(serving, f"{count}-{index}")

    assert len(users._folded) == 3


def test_the_request_tells_what_is_not_known_yet_and_leaves_no_trace() -> None:
    users = directory()
    users.update("new", [like("v3")])

    repeated = users.user(OLD, "new", [like("v3")])
    further = users.user(OLD, "new", [like("v3"), like("v4", NOW_MS)])

    assert np.array_equal(vector(repeated), vector(users.user(OLD, "new")))
    assert names(OLD, further.seen) == {"v3", "v4"}
    assert names(OLD, users.user(OLD, "new").seen) == {"v3"}


def test_who_is_forgotten_is_a_stranger_under_every_model() -> None:
    users = directory()
    users.update("u1", [like("v3")])
    users.forget("u1")

    for serving in (OLD, NEW):
        user = users.user(serving, "u1")
        assert (user.state, user.vector, user.bias, len(user.seen)) == (UserState.COLD, None, 0, 0)
        assert users.summary(serving, "u1") is None


def test_an_interaction_of_the_future_is_forgotten_too() -> None:
    users = directory()
    users.update("new", [like("v3", NOW_MS + 10**9)])
    users.forget("new")

    assert users.summary(OLD, "new") is None


def test_what_one_process_is_told_the_next_page_of_another_knows(tmp_path: Path) -> None:
    """Also one that starts later; each has a look of its own at the store."""
    one, other = (directory(prepared(tmp_path)) for _ in range(2))
    rated = Interaction("v3", InteractionType.RATING, CUT_OFF_MS, 5, 4.5)

    kept = [one.update("new", [rated]), other.update("u1", [like("v4")]), other.forget("u2")]

    assert kept == [Durability.MACHINE] * 3
    for users in (one, other, directory(prepared(tmp_path))):
        assert tuple(users.user(OLD, "new").interactions) == (rated,)
        assert users.user(OLD, "u1").state is UserState.FOLDED_IN
        assert users.user(OLD, "u2").state is UserState.COLD


def test_an_update_that_comes_twice_changes_nothing() -> None:
    users = directory()
    users.update("new", [like("v3")])
    before = users.user(OLD, "new")

    users.update("new", [like("v3")])

    assert users.user(OLD, "new") is before


def test_updates_of_one_user_by_many_at_once_are_all_kept(tmp_path: Path) -> None:
    directories = [directory(prepared(tmp_path)) for _ in range(2)]

    def update(number: int) -> None:
        directories[number % 2].update("new", [like(f"v{number}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(update, range(48)))

    assert names(OLD, directories[0].user(OLD, "new").seen) == {f"v{number}" for number in range(48)}


def test_pages_need_no_store_and_updates_say_that_there_is_none(tmp_path: Path) -> None:
    """As while the follower has a damaged one made anew."""
    users = directory(LiveStore(tmp_path))

    assert users.user(OLD, "u1").state is UserState.TRAINED
    changes: list[Callable[[], object]] = [lambda: users.update("u1", [like("v3")]), lambda: users.forget("u1")]
    for change in changes:
        with pytest.raises(ServiceError) as caught:
            change()
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "PROFILES_UNAVAILABLE")
        assert caught.value.retry_after_s


def test_an_update_waits_for_another_writer_no_longer_than_its_caller(tmp_path: Path) -> None:
    """Such as a process that was stopped while it wrote; pages do not notice."""
    store = prepared(tmp_path)
    users = directory(store)
    with prepared(tmp_path).turn(), pytest.raises(ServiceError) as caught:
        users.update("u1", [like("v3")], within_s=0.1)

    assert caught.value.reason == "PROFILES_UNAVAILABLE"
    assert users.user(OLD, "u1").state is UserState.TRAINED


@pytest.mark.parametrize("place", [0, 40, 70])
def test_a_profile_that_the_disk_changed_counts_as_none(place: int) -> None:
    users = directory()
    users.update("u1", [like("v3"), like("v4")])
    environment = users._store.environment()
    assert environment is not None
    with environment.begin(write=True, db=environment[PROFILES]) as transaction:
        packed = bytearray(transaction.get(b"u1") or b"")
        packed[min(place, len(packed) - 1)] ^= 255
        transaction.put(b"u1", bytes(packed))

    assert users.user(OLD, "u1").state is UserState.TRAINED
    assert users._store.damage.is_reported
    assert users.user(OLD, "u1", [like("v5")]).state is UserState.FOLDED_IN
    assert summarised(users.summary(OLD, "u1")).state is UserState.TRAINED


def test_a_user_is_folded_once_as_long_as_nothing_new_is_known() -> None:
    users = directory()
    users.update("new", [like("v3")])
    before = users.user(OLD, "new")
    users.update("other", [like("v3")])

    assert users.user(OLD, "new") is before
    users.update("new", [like("v4")])
    assert names(OLD, users.user(OLD, "new").seen) == {"v3", "v4"}


def test_who_is_kept_in_memory_is_bounded_by_bytes() -> None:
    """The users of the last pages stay."""
    users = directory()
    users._folded = FoldedUsers(max_bytes=20_000)
    for number in range(100):
        users.update(f"user-{number}", [like(f"v{row}") for row in range(20)])
        users.user(OLD, f"user-{number}")

    assert 5 < len(users._folded) < 50
    assert users._folded.bytes <= 20_000
    assert users.user(OLD, "user-99") is users.user(OLD, "user-99")


def test_a_profile_tells_what_is_known() -> None:
    users = directory()
    users.update("u1", [like("v3"), like("v4")])

    summary = summarised(users.summary(OLD, "u1"))

    lists, tags = OLD.model.catalogue.tag_rows, OLD.model.catalogue.tags
    seen = {*OLD.user("u1").seen.tolist(), *OLD.model.videos.rows(["v3", "v4"]).tolist()}
    counts = dict.fromkeys(tags.ids(np.arange(len(tags))), 0)
    for row in seen:
        for name in tags.ids(lists[row]):
            counts[name] += 1
    assert (summary.state, summary.interaction_count, summary.seen_count) == (UserState.FOLDED_IN, 2, len(seen))
    assert [counts[name] for name in summary.top_tags] == sorted(filter(None, counts.values()), reverse=True)
    assert summary.updated_at_ms == NOW_MS


def test_nobody_has_a_profile_whom_nothing_is_known_of() -> None:
    assert directory().summary(OLD, "nobody") is None
    assert summarised(directory().summary(OLD, "u1")).state is UserState.TRAINED


def test_nothing_of_a_user_whom_another_process_forgot_is_left_in_memory(tmp_path: Path) -> None:
    """After the next sweep, which lets go of who did more as well, and of nobody else."""
    users, others = (directory(prepared(tmp_path)) for _ in range(2))
    for name in ("gone", "busy", "same"):
        users.update(name, [like("v3")])
    gone = weakref.ref(vector(users.user(OLD, "gone")))
    same = users.user(OLD, "same")
    users.user(OLD, "busy")
    assert gone() is not None

    others.forget("gone")
    others.update("busy", [like("v4")])
    users.sweep()

    assert gone() is None
    assert len(users._folded) == 1
    assert users.user(OLD, "same") is same


def test_whom_another_server_forgot_is_a_stranger_to_the_next_page(tmp_path: Path) -> None:
    """The follower learns fingerprints from the model store, no names; nobody else is folded anew."""
    store = prepared(tmp_path)
    users = directory(store)
    for name in ("one", "other", "u1"):
        users.update(name, [like("v3")])
    one, other = (users.user(OLD, name) for name in ("one", "other"))

    with store.writing() as batch:
        batch.forget(user_fingerprint("other"), NOW_MS)
        batch.forget(user_fingerprint("u1"), NOW_MS)

    assert users.user(OLD, "one") is one
    assert users.user(OLD, "other") is not other
    for name in ("other", "u1"):
        user = users.user(OLD, name)
        assert (user.state, len(user.seen), len(user.interactions)) == (UserState.COLD, 0, 0)
        assert users.summary(OLD, name) is None


def test_who_comes_back_is_known_by_what_happened_since(tmp_path: Path) -> None:
    clock = [NOW_MS]
    users = directory(prepared(tmp_path), now_ms=lambda: clock[0])
    users.update("u1", [like("v3")])
    users.forget("u1")
    clock[0] += 1

    users.update("u1", [like("v3"), like("v4", NOW_MS + 1)])

    user = users.user(OLD, "u1")
    assert (user.state, names(OLD, user.seen)) == (UserState.FOLDED_IN, {"v4"})
    assert np.array_equal(vector(user), vector(the_stranger([like("v4", NOW_MS + 1)])))


def the_stranger(done: list[Interaction]) -> User:
    """Return somebody of whom nothing but this is known."""
    return directory().user(OLD, "stranger", done)
