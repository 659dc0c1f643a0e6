"""Containers that are bounded by bytes."""

from hypothesis import given
from hypothesis import strategies as st

from servicekit.bounded import ENTRY_BYTES, BoundedMap, BoundedQueue, BoundedTexts

SIZES = st.lists(st.integers(0, 1000), max_size=60)
BOUND = 5 * ENTRY_BYTES


def _queue() -> BoundedQueue[int]:
    return BoundedQueue(BOUND, lambda size: size)


@given(SIZES)
def test_push_keeps_the_latest_that_fit(sizes: list[int]) -> None:
    queue, dropped = _queue(), 0
    for size in sizes:
        dropped += queue.push(size)
        assert queue.bytes <= BOUND
        assert queue.bytes == sum(queue) + ENTRY_BYTES * len(queue)
    assert dropped + len(queue) == len(sizes)
    fitting = [size for size in sizes if size + ENTRY_BYTES <= BOUND]
    assert [*queue] == fitting[len(fitting) - len(queue) :]


@given(SIZES)
def test_offer_refuses_what_does_not_fit(sizes: list[int]) -> None:
    queue = _queue()
    taken = [size for size in sizes if queue.offer(size)]
    assert [*queue] == taken
    assert queue.bytes <= BOUND


@given(SIZES, SIZES)
def test_what_is_given_back_comes_first_and_the_oldest_goes(first: list[int], then: list[int]) -> None:
    queue = _queue()
    for size in first:
        queue.push(size)
    batch = queue.take(3)
    for size in then:
        queue.push(size)
    whole = [*batch, *queue]
    dropped = queue.give_back(batch)
    assert [*queue] == whole[dropped:]
    assert queue.bytes <= BOUND


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.text("x🎬", max_size=300)), max_size=60))
def test_texts_forget_those_set_longest_ago(entries: list[tuple[str, str]]) -> None:
    texts: BoundedTexts[str] = BoundedTexts(4000, 4)
    kept: dict[str, str] = {}
    for key, text in entries:
        forgotten = texts.set(key, text)
        kept.pop(key, None)
        kept[key] = text
        assert forgotten == [*kept][: len(forgotten)]
        for name in forgotten:
            del kept[name]
        assert texts.bytes <= 4000
        assert len(texts) == len(kept) <= 4
    assert {key: texts.get(key) for key in kept} == kept


def test_a_map_drops_what_was_put_longest_ago() -> None:
    kept: BoundedMap[str, int] = BoundedMap(2)
    assert (kept.put("a", 1), kept.put("b", 2), kept.put("a", 3)) == (None, None, None)
    assert kept.oldest() == ("b", 2)
    assert kept.put("c", 4) == ("b", 2)
    assert dict(kept) == {"a": 3, "c": 4}


def test_a_map_without_a_bound_of_its_own_drops_while_its_owner_says_so() -> None:
    kept: BoundedMap[str, int] = BoundedMap()
    for number in range(5):
        assert kept.put(str(number), number) is None
    assert list(kept.drop_while(lambda: sum(kept.values()) > 7)) == [("0", 0), ("1", 1), ("2", 2)]
    assert dict(kept) == {"3": 3, "4": 4}
