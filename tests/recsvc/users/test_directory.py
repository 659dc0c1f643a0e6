import json
import weakref
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import User, UserState
from recsvc.model.serving_model import ServingModel
from recsvc.profile_log.log import ProfileLog
from recsvc.users.directory import ProfileSummary, UserDirectory
from recsvc.users.profiles import fingerprint
from servicekit.grpc.errors import ServiceError
from tests.recsvc.support.audiences import CUT_OFF_MS, NOW_MS, audience
from tests.recsvc.support.models import random_model

OLD, NEW = (ServingModel.of(random_model(seed, version=f"{seed}")) for seed in (1, 2))


def like(name: str, at_ms: int = CUT_OFF_MS) -> Interaction:
    return Interaction(name, InteractionType.LIKE, at_ms)


def names(serving: ServingModel, rows: NDArray[np.int32]) -> set[str]:
    return set(serving.model.videos.ids(rows))


def journal(path: Path) -> ProfileLog:
    return ProfileLog(path / "journal")


def vector(user: User) -> NDArray[np.float32]:
    assert user.vector is not None
    return user.vector


def summarised(summary: ProfileSummary | None) -> ProfileSummary:
    assert summary is not None
    return summary


def test_a_stranger_is_folded_in_and_what_was_done_counts_as_seen() -> None:
    users = audience()
    users.update("new", [like("v3"), like("unknown")])

    user = users.user(OLD, "new")

    assert user.state is UserState.FOLDED_IN
    assert names(OLD, user.seen) == {"v3"}
    assert user.bias == 0


def test_mere_impressions_leave_a_stranger_cold_but_are_not_shown_again() -> None:
    users = audience()
    users.update("new", [Interaction("v3", InteractionType.IMPRESSION, CUT_OFF_MS)])

    user = users.user(OLD, "new")

    assert (user.state, user.vector) == (UserState.COLD, None)
    assert names(OLD, user.seen) == {"v3"}


def test_a_trained_user_keeps_what_training_knew() -> None:
    users, trained = audience(), OLD.user("u1")
    users.update("u1", [like("v3")])

    user = users.user(OLD, "u1")

    assert user.state is UserState.FOLDED_IN
    assert set(user.seen.tolist()) == {*trained.seen.tolist(), OLD.model.videos.row("v3")}
    assert user.bias == trained.bias
    assert not np.array_equal(vector(user), vector(trained))


def test_what_training_had_is_not_counted_twice() -> None:
    """A trained user's interactions of before the cut-off count as seen only; a stranger's count fully."""
    users = audience()
    for name in ("u1", "new"):
        users.update(name, [like("v3", CUT_OFF_MS - 1)])

    assert users.user(OLD, "u1").state is UserState.TRAINED
    assert "v3" in names(OLD, users.user(OLD, "u1").seen)
    assert users.user(OLD, "new").state is UserState.FOLDED_IN
    assert [summarised(users.summary(OLD, name)).interaction_count for name in ("u1", "new")] == [0, 1]


def test_users_are_folded_anew_into_the_next_model() -> None:
    users = audience()
    users.update("new", [like("v3")])

    vectors = [vector(users.user(serving, "new")) for serving in (OLD, NEW, OLD)]

    assert vectors[0].tolist() == vectors[2].tolist() == pytest.approx(OLD.fold_in.fold([like("v3")]))
    assert vectors[1].tolist() == pytest.approx(NEW.fold_in.fold([like("v3")]))


def test_users_of_earlier_models_are_let_go() -> None:
    """Each would keep its model in memory."""
    users = audience()
    for serving, count in ((OLD, 20), (NEW, 3)):
        for index in range(count):
            users.update(f"{count}-{index}", [like("v3")])
            users.user(serving, f"{count}-{index}")

    assert len(users._folded) == 3


def test_the_request_tells_what_is_not_known_yet_and_leaves_no_trace() -> None:
    users = audience()
    users.update("new", [like("v3")])

    repeated = users.user(OLD, "new", [like("v3")])
    further = users.user(OLD, "new", [like("v3"), like("v4", NOW_MS)])

    assert np.array_equal(vector(repeated), vector(users.user(OLD, "new")))
    assert names(OLD, further.seen) == {"v3", "v4"}
    assert names(OLD, users.user(OLD, "new").seen) == {"v3"}


def test_who_is_forgotten_is_a_stranger_under_every_model() -> None:
    users = audience()
    users.update("u1", [like("v3")])
    users.forget("u1")

    for serving in (OLD, NEW):
        user = users.user(serving, "u1")
        assert (user.state, user.vector, user.bias, len(user.seen)) == (UserState.COLD, None, 0, 0)
        assert users.summary(serving, "u1") is None


def test_an_interaction_of_the_future_is_forgotten_too() -> None:
    users = audience()
    users.update("new", [like("v3", NOW_MS + 10**9)])
    users.forget("new")

    assert users.summary(OLD, "new") is None


def test_updates_and_deletions_reach_other_processes_and_survive_a_restart(tmp_path: Path) -> None:
    one, other = (audience(journal(tmp_path)) for _ in range(2))
    one.update("new", [Interaction("v3", InteractionType.RATING, CUT_OFF_MS, 5, 4.5)])
    other.update("u1", [like("v4")])
    other.forget("u2")

    for users in (one, other, audience(journal(tmp_path))):
        users.catch_up()
        assert tuple(users.user(OLD, "new").interactions) == (
            Interaction("v3", InteractionType.RATING, CUT_OFF_MS, 5, 4.5),
        )
        assert users.user(OLD, "u1").state is UserState.FOLDED_IN
        assert users.user(OLD, "u2").state is UserState.COLD


def test_nothing_of_the_forgotten_is_left_on_disk(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    users = audience(kept)
    users.update("somebody", [like("v3")])
    users.update("another", [like("v3")])
    users.forget("somebody")
    kept.compact()

    assert b"somebody" not in (tmp_path / "journal").read_bytes()
    again = restarted(tmp_path)
    assert again.user(OLD, "somebody").state is UserState.COLD
    assert again.user(OLD, "another").state is UserState.FOLDED_IN


def test_entries_that_cannot_be_read_spoil_no_other(tmp_path: Path) -> None:
    """Such as those of a later release."""
    odd: list[object] = [
        {},
        [],
        {"user": "u1", "told": 1, "did": [["v1", "dance", 1, 1, None]]},
        {"user": "u1", "told": 1, "did": [["v1\0v2", "like", 1, 1, None]]},
        {"user": "u1", "told": 1, "did": [["v1", "like", 2**70, 1, None]]},
        {"user": "u1", "told": 1, "did": [["v1", "like", 1, True, None]]},
        {"user": "u1", "told": float("inf"), "did": []},
        {"user": None, "told": 1, "did": []},
        {"forget": "no hexadecimal", "at": 1},
        {"forget": "00", "at": 1e400},
    ]
    lines = [*(json.dumps(one) for one in odd), "[" * 100_000, "\ud800", '{"user": "\\ud800", "told": 1, "did": []}']
    (tmp_path / "journal").write_bytes(b"\xff\n" + "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n")
    audience(journal(tmp_path)).update("new", [like("v3")])

    assert restarted(tmp_path).user(OLD, "new").state is UserState.FOLDED_IN
    assert restarted(tmp_path).user(OLD, "u1").state is UserState.TRAINED


def test_pages_do_not_need_the_disk_and_updates_say_when_it_refuses(tmp_path: Path) -> None:
    users = audience(journal(tmp_path))
    (tmp_path / "journal").mkdir()  # neither a file to read nor to write

    assert users.user(OLD, "u1").state is UserState.TRAINED
    changes: list[Callable[[], None]] = [lambda: users.update("u1", [like("v3")]), lambda: users.forget("u1")]
    for change in changes:
        with pytest.raises(ServiceError) as caught:
            change()
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "PROFILES_UNAVAILABLE")


def test_a_profile_tells_what_is_known() -> None:
    users = audience()
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
    assert audience().summary(OLD, "nobody") is None
    assert summarised(audience().summary(OLD, "u1")).state is UserState.TRAINED


def test_nothing_of_a_user_whom_another_process_forgot_is_left_in_memory(tmp_path: Path) -> None:
    users, others = (audience(journal(tmp_path)) for _ in range(2))
    users.update("new", [like("v3")])
    folded = weakref.ref(vector(users.user(OLD, "new")))
    assert folded() is not None

    others.forget("new")
    users.catch_up()

    assert folded() is None


def test_a_user_whom_another_server_forgot_makes_nobody_else_be_folded_anew(tmp_path: Path) -> None:
    """However many are forgotten, pages of all others cost what they did."""
    users = audience(journal(tmp_path))
    for name in ("one", "other"):
        users.update(name, [like("v3")])
    one, other = (users.user(OLD, name) for name in ("one", "other"))

    users.learn_forgotten({fingerprint("other"): NOW_MS})

    assert users.user(OLD, "one") is one
    assert users.user(OLD, "other") is not other


def test_a_wrong_clock_elsewhere_does_not_make_a_user_a_stranger_for_long() -> None:
    users = audience()
    users.learn_forgotten({fingerprint("new"): NOW_MS + 10**10})
    users._now_ms = lambda: NOW_MS + 1

    users.update("new", [like("v3", NOW_MS + 1)])

    assert users.user(OLD, "new").state is UserState.FOLDED_IN


def test_pages_neither_wait_for_the_journal_nor_look_at_it(tmp_path: Path) -> None:
    """Nothing of a page touches the file, whatever other processes add to it."""
    there, here = (audience(journal(tmp_path)) for _ in range(2))
    there.update("new", [like("v3")])
    here._follower = None

    assert here.user(OLD, "new").state is UserState.COLD


def restarted(folder: Path) -> UserDirectory:
    """Return the audience of a process that has just started, and followed once."""
    found = audience(journal(folder))
    found.catch_up()
    return found
