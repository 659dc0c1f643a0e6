"""Page tokens."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.page import VideoFilter
from bridge.feed.page_token import (
    _MAX_PLAIN_BYTES,
    MAX_SERVED,
    InvalidPageTokenError,
    PageToken,
    PageTokens,
    _digest,
    _name,
    _signature,
    request_digest,
)
from servicekit.inputs.identifiers import identifier_problem

KEY, OTHER_KEY = b"a" * 32, b"b" * 32
TOKENS_OF_A = PageTokens([KEY])

IDENTIFIERS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)
TOKENS = st.builds(
    PageToken,
    feed_session_id=st.just("") | IDENTIFIERS,
    request=st.binary(min_size=8, max_size=8),
    page=st.integers(2, MAX_SERVED + 1),
    served=st.lists(IDENTIFIERS, max_size=50).map(tuple),
)


def _signed(packed: bytes, key: bytes = KEY) -> str:
    """Return a token that whoever has the key can make."""
    body = _name(key) + b"12345678" + packed
    return base64.urlsafe_b64encode(_signature(key, body) + body).rstrip(b"=").decode()


@given(TOKENS)
def test_round_trip(token: PageToken) -> None:
    assert TOKENS_OF_A.decode(TOKENS_OF_A.encode(token)) == token


@given(TOKENS, st.data())
def test_corruption_is_refused(token: PageToken, data: st.DataObject) -> None:
    """No other text is taken for a token: not one character changed, cut off or added."""
    text = TOKENS_OF_A.encode(token)
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from("AQgwaz09-_=+/ é\n"))
    corrupted = data.draw(
        st.sampled_from(
            [
                text[:position] + character + text[position + 1 :],
                text[:position],
                text[:position] + character + text[position:],
                text + character,
                text + text,
            ]
        )
    )
    if corrupted == text:
        return
    with pytest.raises(InvalidPageTokenError):
        TOKENS_OF_A.decode(corrupted)


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPageTokenError):
        TOKENS_OF_A.decode(text)


def test_longest_session_fits() -> None:
    """2,000 videos with the longest incompressible identifiers make a token that is read back."""
    served = tuple(base64.b85encode(_digest(str(n).encode()) * 12).decode()[:100] for n in range(MAX_SERVED))
    token = PageToken(feed_session_id="s", request=b"12345678", page=99, served=served)
    assert TOKENS_OF_A.decode(TOKENS_OF_A.encode(token)) == token


@pytest.mark.parametrize("size", [_MAX_PLAIN_BYTES + 1, 100_000_000])
def test_decompression_is_bounded(size: int) -> None:
    """A small token that would unpack to 100 MB is refused, though it is signed."""
    deflater = zlib.compressobj(9)
    packed = b"".join([deflater.compress(b"a" * min(size, 1 << 20)) for _ in range(max(1, size >> 20))])
    text = _signed(b"z" + packed + deflater.compress(b"a" * (size % (1 << 20))) + deflater.flush())
    with pytest.raises(InvalidPageTokenError):
        TOKENS_OF_A.decode(text)


def test_digest_tells_requests_apart() -> None:
    kept = VideoFilter(any_tags=("a", "b"))
    requests = [
        ("recommendations", "u1", "home", "", VideoFilter()),
        ("trending", "u1", "home", "", VideoFilter()),
        ("recommendations", "u2", "home", "", VideoFilter()),
        ("recommendations", "u1", "", "home", VideoFilter()),
        ("recommendations", "u1", "home", "", kept),
        ("recommendations", "u1", "home", "", VideoFilter(any_tags=("a", "b"), max_duration_ms=0)),
        ("recommendations", "u1", "home", "", VideoFilter(any_tags=("ab",))),
        ("recommendations", "u1", "home", "", VideoFilter(none_tags=("a", "b"))),
    ]
    assert len({request_digest(*request) for request in requests}) == len(requests)
    assert request_digest(*requests[4]) == request_digest(*requests[4])


def test_keys_are_renewed_without_a_gap() -> None:
    """First every bridge accepts a new key, then it signs, then the old one goes."""
    token = PageToken(feed_session_id="s", request=b"12345678", page=2, served=("v",))
    bridge, other = PageTokens([KEY]), PageTokens([KEY])
    old = bridge.encode(token)
    other.use([KEY, OTHER_KEY])
    bridge.use([OTHER_KEY, KEY])
    new = bridge.encode(token)
    assert other.decode(new) == other.decode(old) == bridge.decode(old) == token
    bridge.use([OTHER_KEY])
    assert bridge.decode(new) == token
    with pytest.raises(InvalidPageTokenError, match="ask for the first page again"):
        bridge.decode(old)


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b"short"], [bytes([n]) * 32 for n in range(9)]])
def test_keys_that_are_none(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="1 to 8 keys of at least 32 bytes"):
        PageTokens(keys)


@pytest.mark.parametrize("key", [OTHER_KEY, b"3", b""])
def test_nobody_else_can_make_a_token(key: bytes) -> None:
    """Not with another key, not with the name of the right one, not with the constant of the request's digest."""
    body = _name(KEY) + b"12345678" + b"ps\n2\nv"
    for signature in (_signature(key, body), bytes(16), _digest(body) * 2):
        with pytest.raises(InvalidPageTokenError):
            TOKENS_OF_A.decode(base64.urlsafe_b64encode(signature + body).rstrip(b"=").decode())
    with pytest.raises(InvalidPageTokenError):
        TOKENS_OF_A.decode(_signed(b"ps\n2\nv", key))


HOSTILE = {
    "page of 10**18": b"s\n1" + b"0" * 18 + b"\nv",
    "page of 4,301 digits": b"s\n" + b"9" * 4301 + b"\nv",
    "page beyond the last": b"s\n2002\nv",
    "page in Arabic digits": "s\n\u0663\nv".encode(),
    "page 0": b"s\n0\nv",
    "page 1": b"s\n1\nv",
    "negative page": b"s\n-2\nv",
    "NUL in the session": b"a\0b\n2\nv",
    "control in the session": b"a\x1b[31m\n2\nv",
    "long session": b"A" * 129 + b"\n2\nv",
    "session of 250 kB": b"A" * 250_000 + b"\n2\nv",
    "NUL in an id": b"s\n2\na\0b",
    "empty id": b"s\n2\nv\n\nw",
    "empty last id": b"s\n2\n",
    "long id": b"s\n2\n" + b"x" * 129,
    "long id in emoji": b"s\n2\n" + "🎬".encode() * 33,
    "half a surrogate": b"s\n2\n\xed\xa0\x80",
    "too many videos": b"s\n2\n" + b"\n".join(b"v%d" % number for number in range(MAX_SERVED + 1)),
    "no page": b"s",
    "nothing": b"",
}


@pytest.mark.parametrize("plain", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_signed_is_checked_all_the_same(plain: bytes) -> None:
    for packed in (b"p" + plain, b"z" + zlib.compress(plain, 9)):
        with pytest.raises(InvalidPageTokenError, match="corrupted"):
            TOKENS_OF_A.decode(_signed(packed))


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=140), max_size=5))
def test_ids_that_no_request_may_name_are_left_out(video_ids: list[str]) -> None:
    """A token that a bridge makes is one that bridges take, whatever a model or a table held."""
    token = PageToken(feed_session_id="s", request=b"12345678", page=2, served=tuple(video_ids))
    expected = tuple(one for one in video_ids if not identifier_problem(one))
    assert TOKENS_OF_A.decode(TOKENS_OF_A.encode(token)).served == expected
