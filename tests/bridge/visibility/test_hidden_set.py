"""The hidden set: whatever comes, in whatever order and however often, it ends as Postgres has it."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.page import RankedVideo
from bridge.visibility.changes import Authorship, Change, FromKafka, Kind, Limits, ReadOffsets, Stored, Works
from bridge.visibility.hidden_set import HiddenSet


@dataclass
class Truth:
    """Postgres and Kafka, as a history of one video: what each change makes known."""

    revision: int = 0
    hidden: bool = False
    taken_in: tuple[str, ...] = ()
    pending: list[str] = field(default_factory=list)
    told: list[Change] = field(default_factory=list)

    def step(self, what: str) -> None:
        if what == "kafka":
            hide_id = f"h{len(self.told)}"
            self.pending.append(hide_id)
            self.told.append(FromKafka(kind=Kind.VIDEO, id="v", hide_id=hide_id))
            return
        if what == "backfill" and self.pending:
            self.taken_in = (*self.taken_in, self.pending.pop(0))
            self.hidden = True
        elif what == "hide":
            self.hidden = True
        elif what == "restore":
            self.hidden = False
        self.revision += 1
        self.told.append(
            Stored(kind=Kind.VIDEO, id="v", revision=self.revision, hidden=self.hidden, taken_in=self.taken_in)
        )


@given(
    st.lists(st.sampled_from(["hide", "restore", "upsert", "kafka", "backfill"]), min_size=1, max_size=25),
    st.integers(0, 2**32),
)
def test_the_order_in_which_changes_come_does_not_matter(steps: list[str], seed: int) -> None:
    """All but the last state may be missing, as readers of Postgres and of a compacted topic see them."""
    truth, rng = Truth(), random.Random(seed)
    for step in steps:
        truth.step(step)
    for _ in range(len(truth.pending)):
        truth.step("backfill")
    truth.step("upsert")
    last, earlier = truth.told[-1], [one for one in truth.told[:-1] if rng.random() < 0.8]
    changes = [*earlier, *rng.choices(truth.told, k=5), last]
    rng.shuffle(changes)
    found = HiddenSet()
    for change in changes:
        found.apply(change)
    assert found.is_hidden(Kind.VIDEO, "v") == truth.hidden
    assert not found.untaken(Kind.VIDEO)


def test_a_hide_by_kafka_alone_outranks_every_revision_until_it_is_taken_in() -> None:
    found = HiddenSet()
    found.apply(FromKafka(kind=Kind.VIDEO, id="v", hide_id="h"))
    found.apply(Stored(kind=Kind.VIDEO, id="v", revision=10**9, hidden=False))
    assert found.is_hidden(Kind.VIDEO, "v")
    found.apply(Stored(kind=Kind.VIDEO, id="v", revision=10**9 + 1, hidden=False, taken_in=("h",)))
    assert not found.is_hidden(Kind.VIDEO, "v")
    found.apply(FromKafka(kind=Kind.VIDEO, id="v", hide_id="h"))  # read once more
    assert not found.is_hidden(Kind.VIDEO, "v")


def stored(kind: Kind, name: str, revision: int, *, hidden: bool) -> Stored:
    return Stored(kind=kind, id=name, revision=revision, hidden=hidden)


def shown(found: HiddenSet, *names: str, country: str = "", now_s: float = 0) -> list[str]:
    videos = [RankedVideo(name, 1.0) for name in names]
    return [video_id for video_id, _ in found.may_show(videos, country, now_s)]


def test_videos_of_hidden_authors_follow_their_authors() -> None:
    found = HiddenSet()
    found.apply(stored(Kind.AUTHOR, "a", 1, hidden=True))
    assert found.unresolved_authors() == ["a"]
    assert found.bars("", 0)("any", "a")
    found.apply(Works(author_id="a", video_ids=("v1", "v2")))
    assert found.unresolved_authors() == []
    assert shown(found, "v1", "v2", "v3") == ["v3"]
    found.apply(stored(Kind.AUTHOR, "b", 2, hidden=True))
    found.apply(Works(author_id="b", video_ids=("v3",)))
    found.apply(Authorship(video_id="v1", author_id="c"))
    found.apply(Authorship(video_id="v2", author_id="b"))
    found.apply(Authorship(video_id="v4", author_id="b"))
    assert shown(found, "v1", "v2", "v3", "v4") == ["v1"]
    found.apply(stored(Kind.AUTHOR, "a", 3, hidden=False))
    assert shown(found, "v1", "v2", "v3", "v4") == ["v1"]
    found.apply(stored(Kind.VIDEO, "v3", 4, hidden=True))
    found.apply(stored(Kind.AUTHOR, "b", 5, hidden=False))
    assert shown(found, "v1", "v2", "v3", "v4") == ["v1", "v2", "v4"]


@pytest.mark.parametrize(
    ("country", "now_s", "expected"),
    [
        ("", 0, ["denied", "allowed", "later", "free"]),
        ("DE", 0, ["allowed", "later", "free"]),
        ("US", 0, ["denied", "later", "free"]),
        ("", 99.9, ["denied", "allowed", "later", "free"]),
        ("", 100, ["denied", "allowed", "free"]),
    ],
)
def test_limits_say_when_and_where(country: str, now_s: float, expected: list[str]) -> None:
    found = HiddenSet()
    found.apply(Limits(video_id="denied", revision=1, denied=frozenset({"DE"})))
    found.apply(Limits(video_id="allowed", revision=1, allowed=frozenset({"DE"})))
    found.apply(Limits(video_id="later", revision=1, expires_at_s=100))
    assert shown(found, "denied", "allowed", "later", "free", country=country, now_s=now_s) == expected


def test_limits_of_an_earlier_revision_change_nothing() -> None:
    found = HiddenSet()
    found.apply(Limits(video_id="v", revision=5, expires_at_s=100))
    assert not found.apply(Limits(video_id="v", revision=4))
    assert found.apply(Limits(video_id="v", revision=6))
    assert found.limited == 0
    found.apply(Limits(video_id="kept", revision=7, expires_at_s=1))
    found.apply(Limits(video_id="new", revision=9, expires_at_s=1))
    found.apply(Limits(video_id="gone", revision=7, expires_at_s=1))
    found.forget_limits(but=["kept"], until=8)
    assert found.knows(Kind.VIDEO, "kept")
    assert found.knows(Kind.VIDEO, "new")
    assert not found.knows(Kind.VIDEO, "gone")


def test_a_page_without_any_of_them_is_the_page_itself() -> None:
    found, page = HiddenSet(), [RankedVideo(f"v{n}", 1.0) for n in range(20)]
    for n in range(1000):
        found.apply(stored(Kind.VIDEO, f"h{n}", n, hidden=True))
    assert found.may_show(page, "DE", 0) is page


def test_its_changes_make_the_same_set() -> None:
    found, copy = HiddenSet(), HiddenSet()
    changes: list[Change] = [
        stored(Kind.VIDEO, "v", 1, hidden=True),
        stored(Kind.VIDEO, "w", 2, hidden=False),
        FromKafka(kind=Kind.VIDEO, id="w", hide_id="h"),
        stored(Kind.AUTHOR, "a", 3, hidden=True),
        Works(author_id="a", video_ids=("x", "y")),
        Limits(video_id="z", revision=4, expires_at_s=10, denied=frozenset({"DE"})),
        ReadOffsets(offsets=((0, 17), (3, 4))),
    ]
    for change in changes:
        assert found.apply(change)
        assert not found.apply(change)
    for change in found.changes():
        copy.apply(change)
    assert copy == found
