import base64
import zlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelstore.id_map import IdMap
from recsvc.pages.page_token import DIGEST_BYTES, FORMAT, MAX_POSITION, decode, decode_version, encode, encode_version
from recsvc.ranking.video_fingerprints import Fingerprints, fingerprints_of
from servicekit.grpc.errors import ServiceError

DIGEST = bytes(range(DIGEST_BYTES))


def token(served: list[int], version: str = "20250902-1") -> str:
    """Return the token of a page after two others."""
    before, page = np.split(np.array(served, np.uint32), [len(served) // 2])
    return encode(version, DIGEST, before, page)


def seal(body: bytes) -> str:
    return base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "little")).rstrip(b"=").decode()


def problem(text: str, digest: bytes = DIGEST) -> str:
    with pytest.raises(ServiceError) as caught:
        decode(text, digest)
    (violation,) = caught.value.violations
    assert violation.field == "page_token"
    return violation.description


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=100), st.text("0123abc-.", max_size=128))
def test_a_token_survives_the_round_trip(served: list[int], version: str) -> None:
    found = decode(token(served, version), DIGEST)

    assert found.served.tolist() == served
    assert (found.model_version, found.digest, found.position) == (version, DIGEST, len(served))


@given(st.data())
def test_no_damage_goes_unnoticed(data: st.DataObject) -> None:
    """Any one character changed, or any end cut off."""
    text = token([1, 2, 3])
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_=+/ é\0"))
    changed = text[:position] + other + text[position + 1 :]
    assume(changed != text)

    assert problem(changed)
    assert problem(text[:position] or "A")


@pytest.mark.parametrize("count", range(1, 5))
def test_a_token_has_one_spelling(count: int) -> None:
    """Neither with padding, nor with bits of the last character that mean nothing."""
    text = token(list(range(count)), version="1" * count)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = [text[:-1] + letter for letter in letters if lenient(text[:-1] + letter) == lenient(text)]
    others = [*(text + "=" * more for more in range(1, 5)), *(one for one in same if one != text)]

    assert decode(text, DIGEST).position == count
    for other in others:
        assert problem(other)
    version = encode_version("1" * count)
    for more in range(1, 5):
        with pytest.raises(ServiceError):
            decode_version(version + "=" * more)


def lenient(text: str) -> bytes:
    """Decode as the base64 module does without checks: the last character has bits that mean nothing."""
    try:
        return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""


def test_a_token_of_another_request_is_refused() -> None:
    assert "another request" in problem(token([1]), b"another!")


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("not a token", "not a next_page_token"),
        ("ü", "not a next_page_token"),
        ("A", "not a next_page_token"),
        ("AAAA", "damaged"),
        (seal(b""), "damaged"),
        (seal(bytes((FORMAT,))), "wrong length"),
        (seal(bytes((9, 0)) + DIGEST), "format 9"),
        (seal(bytes((FORMAT, 200)) + DIGEST), "wrong length"),
        (seal(bytes((FORMAT, 0)) + DIGEST + b"abc"), "wrong length"),
        (seal(bytes((FORMAT, 0)) + DIGEST), "names 0 videos"),
        (seal(bytes((FORMAT, 0)) + DIGEST + bytes(4 * MAX_POSITION)), f"names {MAX_POSITION} videos"),
        ("A" * 1_000_000, "longer than"),
    ],
)
def test_each_wrong_token_is_told_why(text: str, description: str) -> None:
    assert description in problem(text)


def test_a_token_is_bounded() -> None:
    longest = token([1] * (MAX_POSITION - 1), "v" * 128)

    assert len(longest) < 54_000
    assert decode(longest, DIGEST).position == MAX_POSITION - 1


def test_a_token_of_a_model_list_survives_the_round_trip() -> None:
    assert decode_version(encode_version("20250902-1")) == "20250902-1"
    with pytest.raises(ServiceError, match="page_token"):
        decode_version(encode_version("20250902-1")[:-2] + "xx")
    with pytest.raises(ServiceError, match="another method"):
        decode_version(token([1]))
    assert "format" in problem(encode_version("1"))


def fingerprinted(videos: IdMap) -> Fingerprints:
    of_rows = fingerprints_of(videos)
    return Fingerprints(of_rows, np.argsort(of_rows).astype(np.int32))


def test_fingerprints_find_all_rows_that_share_one() -> None:
    """`plumless` and `buckeroo` have the same CRC-32."""
    videos = IdMap.build(["plumless", "buckeroo", "v1", "v2"])
    fingerprints = fingerprinted(videos)
    asked = fingerprints.of_rows[np.array([videos.row("plumless"), videos.row("v2")])]

    rows = fingerprints.rows(np.append(asked, np.uint32(12345)))

    assert sorted(videos.ids(rows)) == ["buckeroo", "plumless", "v2"]


def test_fingerprints_mean_the_same_in_every_model() -> None:
    one, other = IdMap.build(f"v{index}" for index in range(9000)), IdMap.build(["v77", "v5000", "w"])
    asked = fingerprinted(other).of_rows[np.arange(3)]

    assert one.ids(fingerprinted(one).rows(asked)) == ["v5000", "v77"]


def test_fingerprints_of_nothing() -> None:
    assert fingerprinted(IdMap.build([])).rows(np.array([1], np.uint32)).tolist() == []
    assert fingerprinted(IdMap.build(["a"])).rows(np.empty(0, np.uint32)).tolist() == []
