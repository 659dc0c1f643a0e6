"""Which keys of a set verify tokens: odd, weak and ambiguous ones are set aside and named."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from bridge.authentication.authenticator import KeyFile, TokenPolicy, TokenUsers
from tests.bridge.support.user_tokens import (
    OTHER_KEY,
    POLICY,
    RSA_KEY,
    authenticator_of,
    bearer,
    pem_of,
    refusal_of,
    signed_token,
)
from tests.bridge.support.waiting import until


def _jwk(key: Any, key_id: str) -> dict[str, Any]:
    return {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": key_id, "alg": "RS256"}


def test_key_set(tmp_path: Path) -> None:
    """Each token is checked with the key that it names."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [_jwk(RSA_KEY, "a"), _jwk(OTHER_KEY, "b")]}))
    users = authenticator_of(path)
    assert users.user("", bearer(signed_token(key_id="a"))) == "u1"
    assert users.user("", bearer(signed_token(OTHER_KEY, key_id="b"))) == "u1"
    reasons = [
        refusal_of(users, bearer(token))[1]
        for token in (signed_token(key_id="b"), signed_token(key_id="c"), signed_token())
    ]
    assert reasons == ["TOKEN_SIGNATURE_INVALID", "TOKEN_KEY_UNKNOWN", "TOKEN_KEY_UNKNOWN"]


def _write(path: Path, *entries: Any) -> Path:
    path.write_text(json.dumps({"keys": entries}))
    return path


@pytest.mark.parametrize("key_id", ["a", None])
def test_a_set_of_one_key_takes_tokens_that_name_none(tmp_path: Path, key_id: str | None) -> None:
    users = authenticator_of(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a")))
    assert users.user("", bearer(signed_token(key_id=key_id))) == "u1"
    assert refusal_of(users, bearer(signed_token(key_id="b")))[1] == "TOKEN_KEY_UNKNOWN"


def test_a_lone_key_without_a_name_takes_any(tmp_path: Path) -> None:
    nameless = _jwk(RSA_KEY, "a")
    del nameless["kid"]
    users = authenticator_of(_write(tmp_path / "keys.json", nameless))
    assert users.user("", bearer(signed_token(key_id="b"))) == users.user("", bearer(signed_token())) == "u1"


_PRIVATE: Final = {**json.loads(RSAAlgorithm.to_jwk(RSA_KEY)), "kid": "b"}


_NAMELESS: Final = {name: value for name, value in _jwk(OTHER_KEY, "b").items() if name != "kid"}


@pytest.mark.parametrize(
    ("bad", "name", "problem"),
    [
        (_PRIVATE, "b", "is a private key: replace it, as others may have read it"),
        ({**_jwk(OTHER_KEY, "b"), "use": "enc"}, "b", "is not for verifying signatures"),
        ({**_jwk(OTHER_KEY, "b"), "key_ops": ["encrypt"]}, "b", "is not for verifying signatures"),
        ({**_jwk(OTHER_KEY, "b"), "alg": "RSA-OAEP"}, "b", "is for an algorithm other than RS256, PS256"),
        ({**_jwk(OTHER_KEY, "b"), "alg": ["RS256"]}, "b", "is for an algorithm other than RS256, PS256"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "b"}, "b", "is a shared secret"),
        ({"kty": "XYZ", "kid": "b"}, "b", "is of a type that is not supported"),
        ({"kty": ["RSA"], "kid": "b"}, "b", "is of a type that is not supported"),
        ({"kty": "RSA", "kid": 5}, "number 2", "has a kid that is no text of 1 to 128 bytes"),
        ({"kty": "RSA", "kid": "b", "n": 5}, "b", None),
        ({"kty": "EC", "kid": "b", "crv": "P-256", "x": "AAAA", "y": "!"}, "b", None),
        (5, "number 2", "is of a type that is not supported"),
        (None, "number 2", "is of a type that is not supported"),
    ],
)
def test_a_bad_key_is_set_aside_and_named(tmp_path: Path, bad: Any, name: str, problem: str | None) -> None:
    """The other one stays usable, and what is set aside verifies nothing."""
    with structlog.testing.capture_logs() as logs:
        users = authenticator_of(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a"), bad))
    ((told, text),) = logs[0]["keys"].items()
    assert (logs[0]["event"], told) == ("identity.keys_set_aside", name)
    assert text == problem or (problem is None and text)
    assert users.user("", bearer(signed_token(key_id="a"))) == "u1"
    assert refusal_of(users, bearer(signed_token(OTHER_KEY, key_id="b")))[1] == "TOKEN_KEY_UNKNOWN"


def test_a_key_without_a_name_takes_tokens_without_one(tmp_path: Path) -> None:
    users = authenticator_of(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a"), _NAMELESS))
    assert users.user("", bearer(signed_token(key_id="a"))) == "u1"
    assert users.user("", bearer(signed_token(OTHER_KEY))) == "u1"


@pytest.mark.parametrize("entry", [_jwk(RSA_KEY, "b"), _NAMELESS])
def test_keys_of_one_name_are_all_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logs:
        users = authenticator_of(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a"), entry, entry))
    assert [*logs[0]["keys"].values()] == ["is there more than once"]
    assert users.user("", bearer(signed_token(key_id="a"))) == "u1"
    assert refusal_of(users, bearer(signed_token(key_id="b")))[1] == "TOKEN_KEY_UNKNOWN"


def test_a_key_verifies_its_own_algorithm_only(tmp_path: Path) -> None:
    policy = TokenPolicy(algorithms=("RS256", "PS256"), audience="feed", issuer="https://issuer.example")
    users = authenticator_of(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a")), policy=policy)
    assert users.user("", bearer(signed_token())) == "u1"
    assert refusal_of(users, bearer(signed_token(algorithm="PS256")))[1] == "TOKEN_ALGORITHM_REFUSED"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "{}",
        '{"keys": []}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"keys": 5}',
        '{"keys":' + "[" * 100_000 + "]" * 100_000 + "}",
        pem_of(RSA_KEY).decode() + pem_of(OTHER_KEY).decode(),
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
    users = TokenUsers(file, POLICY, anonymous=False)
    task = asyncio.create_task(file.keep_fresh())
    bad = ["garbage", "{" * 10_000, '{"keys":' + "[" * 100_000 + "]" * 100_000 + "}", '{"keys": []}', "\0", ""]
    for text in bad:
        await asyncio.to_thread(keys.write_text, text)
        seen = len(pauses)
        await until(lambda: len(pauses) > seen + 1)  # noqa: B023  # waited for here
    seen = len(pauses)
    await until(lambda: len(pauses) > seen + 2)
    assert users.user("", bearer(signed_token())) == "u1"
    await asyncio.to_thread(keys.write_bytes, pem_of(OTHER_KEY))
    seen = len(pauses)
    await until(lambda: len(pauses) > seen + 2)
    assert users.user("", bearer(signed_token(OTHER_KEY))) == "u1"
    assert refusal_of(users, bearer(signed_token()))[1] == "TOKEN_SIGNATURE_INVALID"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), "1024 bits"),  # noqa: S505  # which is the point
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
    ],
)
def test_a_weak_key_verifies_nothing(tmp_path: Path, key: Any, problem: str) -> None:
    """As RFC 7518 has it for these algorithms."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem_of(key))
    with pytest.raises(ValueError, match=problem):
        KeyFile(path)


def test_a_weak_key_of_a_set_is_set_aside(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # which is the point
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [_jwk(weak, "weak"), _jwk(RSA_KEY, "good")]}), encoding="utf-8")
    with structlog.testing.capture_logs() as logs:
        KeyFile(path).find("good")
    assert "1024 bits" in logs[0]["keys"]["weak"]
