"""Page tokens."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.page import VideoFilter
from bridge.page_token import (
    _MAX_PLAIN_BYTES,
    MAX_SERVED,
    InvalidPageTokenError,
    PageToken,
    _digest,
    request_digest,
)

IDENTIFIERS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)
TOKENS = st.builds(
    PageToken,
    feed_session_id=st.just("") | IDENTIFIERS,
    request=st.binary(min_size=8, max_size=8),
    page=st.integers(2, 2000),
    served=st.lists(IDENTIFIERS, max_size=50).map(tuple),
)


@given(TOKENS)
def test_round_trip(token: PageToken) -> None:
    assert PageToken.decode(token.encode()) == token


@given(TOKENS, st.data())
def test_corruption_is_refused(token: PageToken, data: st.DataObject) -> None:
    """No other text is taken for a token: not one character changed, cut off or added."""
    text = token.encode()
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
        PageToken.decode(corrupted)


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPageTokenError):
        PageToken.decode(text)


def test_longest_session_fits() -> None:
    """2,000 videos with the longest incompressible identifiers make a token that is read back."""
    served = tuple(base64.b85encode(_digest(str(n).encode()) * 12).decode()[:100] for n in range(MAX_SERVED))
    token = PageToken(feed_session_id="s", request=b"12345678", page=99, served=served)
    assert PageToken.decode(token.encode()) == token


@pytest.mark.parametrize("size", [_MAX_PLAIN_BYTES + 1, 100_000_000])
def test_decompression_is_bounded(size: int) -> None:
    """A small token that would unpack to 100 MB is refused, though its checksum is right."""
    deflater = zlib.compressobj(9)
    packed = b"".join([deflater.compress(b"a" * min(size, 1 << 20)) for _ in range(max(1, size >> 20))])
    body = b"12345678z" + packed + deflater.compress(b"a" * (size % (1 << 20))) + deflater.flush()
    text = base64.urlsafe_b64encode(_digest(body) + body).rstrip(b"=").decode()
    with pytest.raises(InvalidPageTokenError):
        PageToken.decode(text)


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
