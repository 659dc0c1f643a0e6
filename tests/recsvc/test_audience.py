import json
import weakref
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from recsvc.audience import Audience, ProfileSummary
from recsvc.interactions import Interaction, Kind
from recsvc.journal import Journal
from recsvc.profiles import fingerprint
from recsvc.serving_model import ServingModel
from recsvc.viewers import Viewer, ViewerState
from servicekit.errors import ServiceError
from tests.recsvc.audiences import CUT_OFF_MS, NOW_MS, audience
from tests.recsvc.models import random_model

OLD, NEW = (ServingModel.of(random_model(seed, version=f"{seed}")) for seed in (1, 2))


def like(name: str, at_ms: int = CUT_OFF_MS) -> Interaction:
    return Interaction(name, Kind.LIKE, at_ms)


def names(serving: ServingModel, rows: NDArray[np.int32]) -> set[str]:
    return set(serving.model.videos.ids(rows))


def journal(path: Path) -> Journal:
    return Journal(path / "journal")


def vector(viewer: Viewer) -> NDArray[np.float32]:
    assert viewer.vector is not None
    return viewer.vector


def summarised(summary: ProfileSummary | None) -> ProfileSummary:
    assert summary is not None
    return summary


def test_a_stranger_is_folded_in_and_what_was_done_counts_as_seen() -> None:
    viewers = audience()
    viewers.update("new", [like("v3"), like("unknown")])

    viewer = viewers.viewer(OLD, "new")

    assert viewer.state is ViewerState.FOLDED_IN
    assert names(OLD, viewer.seen) == {"v3"}
    assert viewer.bias == 0


def test_mere_impressions_leave_a_stranger_cold_but_are_not_shown_again() -> None:
    viewers = audience()
    viewers.update("new", [Interaction("v3", Kind.IMPRESSION, CUT_OFF_MS)])

    viewer = viewers.viewer(OLD, "new")

    assert (viewer.state, viewer.vector) == (ViewerState.COLD, None)
    assert names(OLD, viewer.seen) == {"v3"}


def test_a_trained_viewer_keeps_what_training_knew() -> None:
    viewers, trained = audience(), OLD.viewer("u1")
    viewers.update("u1", [like("v3")])

    viewer = viewers.viewer(OLD, "u1")

    assert viewer.state is ViewerState.FOLDED_IN
    assert set(viewer.seen.tolist()) == {*trained.seen.tolist(), OLD.model.videos.row("v3")}
    assert viewer.bias == trained.bias
    assert not np.array_equal(vector(viewer), vector(trained))


def test_what_training_had_is_not_counted_twice() -> None:
    """A trained viewer's interactions of before the cut-off count as seen only; a stranger's count fully."""
    viewers = audience()
    for name in ("u1", "new"):
        viewers.update(name, [like("v3", CUT_OFF_MS - 1)])

    assert viewers.viewer(OLD, "u1").state is ViewerState.TRAINED
    assert "v3" in names(OLD, viewers.viewer(OLD, "u1").seen)
    assert viewers.viewer(OLD, "new").state is ViewerState.FOLDED_IN
    assert [summarised(viewers.summary(OLD, name)).interaction_count for name in ("u1", "new")] == [0, 1]


def test_viewers_are_folded_anew_into_the_next_model() -> None:
    viewers = audience()
    viewers.update("new", [like("v3")])

    vectors = [vector(viewers.viewer(serving, "new")) for serving in (OLD, NEW, OLD)]

    assert vectors[0].tolist() == vectors[2].tolist() == pytest.approx(OLD.fold_in.fold([like("v3")]))
    assert vectors[1].tolist() == pytest.approx(NEW.fold_in.fold([like("v3")]))


def test_viewers_of_earlier_models_are_let_go() -> None:
    """Each would keep its model in memory."""
    viewers = audience()
    for serving, count in ((OLD, 20), (NEW, 3)):
        for index in range(count):
            viewers.update(f"{count}-{index}", [like("v3")])
            viewers.viewer(serving, f"{count}-{index}")

    assert len(viewers._folded) == 3


def test_the_request_tells_what_is_not_known_yet_and_leaves_no_trace() -> None:
    viewers = audience()
    viewers.update("new", [like("v3")])

    repeated = viewers.viewer(OLD, "new", [like("v3")])
    further = viewers.viewer(OLD, "new", [like("v3"), like("v4", NOW_MS)])

    assert np.array_equal(vector(repeated), vector(viewers.viewer(OLD, "new")))
    assert names(OLD, further.seen) == {"v3", "v4"}
    assert names(OLD, viewers.viewer(OLD, "new").seen) == {"v3"}


def test_who_is_forgotten_is_a_stranger_under_every_model() -> None:
    viewers = audience()
    viewers.update("u1", [like("v3")])
    viewers.forget("u1")

    for serving in (OLD, NEW):
        viewer = viewers.viewer(serving, "u1")
        assert (viewer.state, viewer.vector, viewer.bias, len(viewer.seen)) == (ViewerState.COLD, None, 0, 0)
        assert viewers.summary(serving, "u1") is None


def test_an_interaction_of_the_future_is_forgotten_too() -> None:
    viewers = audience()
    viewers.update("new", [like("v3", NOW_MS + 10**9)])
    viewers.forget("new")

    assert viewers.summary(OLD, "new") is None


def test_updates_and_deletions_reach_other_processes_and_survive_a_restart(tmp_path: Path) -> None:
    one, other = (audience(journal(tmp_path)) for _ in range(2))
    one.update("new", [Interaction("v3", Kind.RATING, CUT_OFF_MS, 5, 4.5)])
    other.update("u1", [like("v4")])
    other.forget("u2")

    for viewers in (one, other, audience(journal(tmp_path))):
        viewers.catch_up()
        assert tuple(viewers.viewer(OLD, "new").interactions) == (Interaction("v3", Kind.RATING, CUT_OFF_MS, 5, 4.5),)
        assert viewers.viewer(OLD, "u1").state is ViewerState.FOLDED_IN
        assert viewers.viewer(OLD, "u2").state is ViewerState.COLD


def test_nothing_of_the_forgotten_is_left_on_disk(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    viewers = audience(kept)
    viewers.update("somebody", [like("v3")])
    viewers.update("another", [like("v3")])
    viewers.forget("somebody")
    kept.compact()

    assert b"somebody" not in (tmp_path / "journal").read_bytes()
    again = restarted(tmp_path)
    assert again.viewer(OLD, "somebody").state is ViewerState.COLD
    assert again.viewer(OLD, "another").state is ViewerState.FOLDED_IN


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

    assert restarted(tmp_path).viewer(OLD, "new").state is ViewerState.FOLDED_IN
    assert restarted(tmp_path).viewer(OLD, "u1").state is ViewerState.TRAINED


def test_pages_do_not_need_the_disk_and_updates_say_when_it_refuses(tmp_path: Path) -> None:
    viewers = audience(journal(tmp_path))
    (tmp_path / "journal").mkdir()  # neither a file to read nor to write

    assert viewers.viewer(OLD, "u1").state is ViewerState.TRAINED
    changes: list[Callable[[], None]] = [lambda: viewers.update("u1", [like("v3")]), lambda: viewers.forget("u1")]
    for change in changes:
        with pytest.raises(ServiceError) as caught:
            change()
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "PROFILES_UNAVAILABLE")


def test_a_profile_tells_what_is_known() -> None:
    viewers = audience()
    viewers.update("u1", [like("v3"), like("v4")])

    summary = summarised(viewers.summary(OLD, "u1"))

    lists, tags = OLD.model.catalogue.tag_rows, OLD.model.catalogue.tags
    seen = {*OLD.viewer("u1").seen.tolist(), *OLD.model.videos.rows(["v3", "v4"]).tolist()}
    counts = dict.fromkeys(tags.ids(np.arange(len(tags))), 0)
    for row in seen:
        for name in tags.ids(lists[row]):
            counts[name] += 1
    assert (summary.state, summary.interaction_count, summary.seen_count) == (ViewerState.FOLDED_IN, 2, len(seen))
    assert [counts[name] for name in summary.top_tags] == sorted(filter(None, counts.values()), reverse=True)
    assert summary.updated_at_ms == NOW_MS


def test_nobody_has_a_profile_whom_nothing_is_known_of() -> None:
    assert audience().summary(OLD, "nobody") is None
    assert summarised(audience().summary(OLD, "u1")).state is ViewerState.TRAINED


def test_nothing_of_a_viewer_whom_another_process_forgot_is_left_in_memory(tmp_path: Path) -> None:
    viewers, others = (audience(journal(tmp_path)) for _ in range(2))
    viewers.update("new", [like("v3")])
    folded = weakref.ref(vector(viewers.viewer(OLD, "new")))
    assert folded() is not None

    others.forget("new")
    viewers.catch_up()

    assert folded() is None


def test_a_viewer_whom_another_server_forgot_makes_nobody_else_be_folded_anew(tmp_path: Path) -> None:
    """However many are forgotten, pages of all others cost what they did."""
    viewers = audience(journal(tmp_path))
    for name in ("one", "other"):
        viewers.update(name, [like("v3")])
    one, other = (viewers.viewer(OLD, name) for name in ("one", "other"))

    viewers.learn_forgotten({fingerprint("other"): NOW_MS})

    assert viewers.viewer(OLD, "one") is one
    assert viewers.viewer(OLD, "other") is not other


def test_a_wrong_clock_elsewhere_does_not_make_a_viewer_a_stranger_for_long() -> None:
    viewers = audience()
    viewers.learn_forgotten({fingerprint("new"): NOW_MS + 10**10})
    viewers._now_ms = lambda: NOW_MS + 1

    viewers.update("new", [like("v3", NOW_MS + 1)])

    assert viewers.viewer(OLD, "new").state is ViewerState.FOLDED_IN


def test_pages_neither_wait_for_the_journal_nor_look_at_it(tmp_path: Path) -> None:
    """Nothing of a page touches the file, whatever other processes add to it."""
    there, here = (audience(journal(tmp_path)) for _ in range(2))
    there.update("new", [like("v3")])
    here._follower = None

    assert here.viewer(OLD, "new").state is ViewerState.COLD


def restarted(folder: Path) -> Audience:
    """Return the audience of a process that has just started, and followed once."""
    found = audience(journal(folder))
    found.catch_up()
    return found
