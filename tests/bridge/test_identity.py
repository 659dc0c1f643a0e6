"""Viewers by their bearer tokens, signed with real keys."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from grpc import StatusCode
from jwt.algorithms import RSAAlgorithm

from bridge.identity import KeyFile, Metadata, NamedViewers, TokenPolicy, TokenViewers
from servicekit.errors import ServiceError
from tests.bridge.waiting import until

RSA_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())
POLICY: Final = TokenPolicy(algorithms=("RS256",), audience="feed", issuer="https://issuer.example")


def _pem(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public


def _jwk(key: Any, key_id: str) -> dict[str, Any]:
    return {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": key_id, "alg": "RS256"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(_pem(RSA_KEY))
    return path


def _viewers(path: Path, *, anonymous: bool = False, policy: TokenPolicy = POLICY) -> TokenViewers:
    return TokenViewers(KeyFile(path), policy, anonymous=anonymous)


def _token(key: Any = RSA_KEY, *, algorithm: str = "RS256", key_id: str | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {"sub": "u1", "aud": "feed", "iss": "https://issuer.example", "iat": now, "exp": now + 60, **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


def _bearer(token: str) -> Metadata:
    return lambda: [("user-agent", "test"), ("authorization", f"Bearer {token}")]


def _no_metadata() -> None:
    """Return what gRPC returns where a call brought nothing."""


def _refusal(viewers: TokenViewers, metadata: Any, claimed: str = "u1") -> tuple[StatusCode, str]:
    with pytest.raises(ServiceError) as caught:
        viewers.viewer(claimed, metadata)
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize("claimed", ["", "u1"])
def test_viewer_is_the_subject(keys: Path, claimed: str) -> None:
    assert _viewers(keys).viewer(claimed, _bearer(_token())) == "u1"


def test_other_viewer_is_denied(keys: Path) -> None:
    assert _refusal(_viewers(keys), _bearer(_token()), "u2") == (StatusCode.PERMISSION_DENIED, "OTHER_VIEWER")


def test_no_token(keys: Path) -> None:
    """Nobody gets a named viewer's feed without a token, also where viewers may be anonymous."""
    missing = (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert _refusal(_viewers(keys), _no_metadata) == missing
    assert _refusal(_viewers(keys), _no_metadata, "") == missing
    assert _refusal(_viewers(keys, anonymous=True), _no_metadata) == missing
    assert _viewers(keys, anonymous=True).viewer("", _no_metadata) is None


def _unsigned() -> str:
    header, claims, _ = _token().split(".")
    plain = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    assert header != plain
    return f"{plain}.{claims}."


def _by_public_key() -> str:
    """A token whose shared secret is the public key: the classic confusion of algorithms."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    body = header + b"." + _token().split(".")[1].encode()
    algorithm = jwt.get_algorithm_by_name("HS256")
    mac = algorithm.sign(body, _pem(RSA_KEY))  # sign() takes any secret, where encode() refuses this one
    return (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


NOW: Final = int(time.time())


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (_token(exp=NOW - 60), "TOKEN_EXPIRED"),
        (_token(nbf=NOW + 600), "TOKEN_INVALID"),
        (_token(iat=NOW + 600), "TOKEN_INVALID"),
        (_token(exp=None), "TOKEN_INVALID"),
        (_token(iat=None), "TOKEN_INVALID"),
        (_token(sub=None), "TOKEN_INVALID"),
        (_token(sub=""), "TOKEN_INVALID"),
        (_token(sub="u\x00"), "TOKEN_INVALID"),
        (_token(sub="x" * 200), "TOKEN_INVALID"),
        (_token(aud="other"), "TOKEN_INVALID"),
        (_token(aud=None), "TOKEN_INVALID"),
        (_token(iss="https://other.example"), "TOKEN_INVALID"),
        (_token(OTHER_KEY), "TOKEN_INVALID"),
        (_token(EC_KEY, algorithm="ES256"), "TOKEN_INVALID"),
        (_token(algorithm="PS256"), "TOKEN_INVALID"),
        (_token()[:-4] + "AAAA", "TOKEN_INVALID"),
        (_token() + "é", "TOKEN_INVALID"),
        (_unsigned(), "TOKEN_INVALID"),
        (_by_public_key(), "TOKEN_INVALID"),
        ("garbage", "TOKEN_INVALID"),
        ("", "TOKEN_MISSING"),
    ],
)
def test_bad_token(keys: Path, token: str, reason: str) -> None:
    assert _refusal(_viewers(keys), _bearer(token)) == (StatusCode.UNAUTHENTICATED, reason)


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Basic dTE6cHc=")],
        [("authorization", _token())],
        [("authorization", f"Bearer {_token()}")] * 2,
        [("authorization", b"Bearer x")],
    ],
)
def test_bad_header(keys: Path, metadata: Any) -> None:
    assert _refusal(_viewers(keys), lambda: metadata) == (StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


def test_small_clock_differences_are_forgiven(keys: Path) -> None:
    now = int(time.time())
    assert _viewers(keys).viewer("", _bearer(_token(exp=now - 5, iat=now + 5))) == "u1"


def test_key_set(tmp_path: Path) -> None:
    """Each token is checked with the key that it names."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [_jwk(RSA_KEY, "a"), _jwk(OTHER_KEY, "b")]}))
    viewers = _viewers(path)
    assert viewers.viewer("", _bearer(_token(key_id="a"))) == "u1"
    assert viewers.viewer("", _bearer(_token(OTHER_KEY, key_id="b"))) == "u1"
    for token in (_token(key_id="b"), _token(key_id="c"), _token()):
        assert _refusal(viewers, _bearer(token))[1] == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "{}",
        '{"keys": []}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}',
        RSA_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    ],
)
def test_file_without_public_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match="keys"):
        KeyFile(path)


async def test_keys_are_renewed(keys: Path) -> None:
    """A new key is taken in beside the calls; a file that cannot be read leaves the last good ones."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0.001)

    file = KeyFile(keys, sleep=sleep)
    viewers = TokenViewers(file, POLICY, anonymous=False)
    task = asyncio.create_task(file.keep_fresh())
    await asyncio.to_thread(keys.write_text, "garbage")
    seen = len(pauses)
    await until(lambda: len(pauses) > seen + 2)
    assert viewers.viewer("", _bearer(_token())) == "u1"
    await asyncio.to_thread(keys.write_bytes, _pem(OTHER_KEY))
    seen = len(pauses)
    await until(lambda: len(pauses) > seen + 2)
    assert viewers.viewer("", _bearer(_token(OTHER_KEY))) == "u1"
    assert _refusal(viewers, _bearer(_token()))[1] == "TOKEN_INVALID"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_named_viewers() -> None:
    """Without keys, callers name the viewer, and tokens are not looked at."""
    assert NamedViewers().viewer("u1", _bearer("garbage")) == "u1"
