"""Users by their bearer tokens, signed with real keys."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from grpc import StatusCode
from jwt.algorithms import RSAAlgorithm

from bridge.authentication.authenticator import KeyFile, Metadata, TokenPolicy, TokenUsers, TrustedCallers
from servicekit.grpc.errors import ServiceError
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.clock import FakeClock
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for

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


def _users(path: Path, *, anonymous: bool = False, policy: TokenPolicy = POLICY) -> TokenUsers:
    return TokenUsers(KeyFile(path), policy, anonymous=anonymous)


def _token(key: Any = RSA_KEY, *, algorithm: str = "RS256", key_id: str | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {"sub": "u1", "aud": "feed", "iss": "https://issuer.example", "iat": now, "exp": now + 3600, **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


def _bearer(token: str) -> Metadata:
    return lambda: [("user-agent", "test"), ("authorization", f"Bearer {token}")]


def _no_metadata() -> None:
    """Return what gRPC returns where a call brought nothing."""


def _refusal(users: TokenUsers, metadata: Any, claimed: str = "u1") -> tuple[StatusCode, str]:
    with pytest.raises(ServiceError) as caught:
        users.user(claimed, metadata)
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize("claimed", ["", "u1"])
def test_user_is_the_subject(keys: Path, claimed: str) -> None:
    assert _users(keys).user(claimed, _bearer(_token())) == "u1"


def test_other_user_is_denied(keys: Path) -> None:
    assert _refusal(_users(keys), _bearer(_token()), "u2") == (StatusCode.PERMISSION_DENIED, "OTHER_VIEWER")


def test_no_token(keys: Path) -> None:
    """Nobody gets a named user's feed without a token, also where users may be anonymous."""
    missing = (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert _refusal(_users(keys), _no_metadata) == missing
    assert _refusal(_users(keys), _no_metadata, "") == missing
    assert _refusal(_users(keys, anonymous=True), _no_metadata) == missing
    assert _users(keys, anonymous=True).user("", _no_metadata) is None


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


def _raw(payload: bytes | None = None, **changes: Any) -> str:
    """A well-signed token of any payload, which libraries would not make."""
    claims = {"sub": "u1", "aud": "feed", "iss": "https://issuer.example", "iat": NOW, "exp": NOW + 3600, **changes}
    return jwt.PyJWS().encode(json.dumps(claims).encode() if payload is None else payload, RSA_KEY, algorithm="RS256")


def _with_header(header: bytes) -> str:
    return ".".join([base64.urlsafe_b64encode(header).rstrip(b"=").decode(), *_token().split(".")[1:]])


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (_token(exp=NOW - 60), "TOKEN_EXPIRED"),
        (_token(nbf=NOW + 7200), "TOKEN_NOT_YET_VALID"),
        (_token(iat=NOW + 7200), "TOKEN_NOT_YET_VALID"),
        (_token(exp=NOW + 400 * 86_400), "TOKEN_LIVES_TOO_LONG"),
        (_token(exp=None), "TOKEN_CLAIM_MISSING"),
        (_token(iat=None), "TOKEN_CLAIM_MISSING"),
        (_token(sub=None), "TOKEN_CLAIM_MISSING"),
        (_token(aud=None), "TOKEN_CLAIM_MISSING"),
        (_token(iss=None), "TOKEN_CLAIM_MISSING"),
        (_raw(exp=1e300), "TOKEN_CLAIM_INVALID"),
        (_raw(exp=10**400), "TOKEN_CLAIM_INVALID"),
        (_raw(exp=float("inf")), "TOKEN_CLAIM_INVALID"),
        (_raw(exp=float("nan")), "TOKEN_CLAIM_INVALID"),
        (_raw(exp="9999999999"), "TOKEN_CLAIM_INVALID"),
        (_raw(exp=True), "TOKEN_CLAIM_INVALID"),
        (_raw(iat=float("-inf")), "TOKEN_CLAIM_INVALID"),
        (_raw(nbf=-1), "TOKEN_CLAIM_INVALID"),
        (_raw(nbf=[]), "TOKEN_CLAIM_INVALID"),
        (_raw(sub=5), "TOKEN_SUBJECT_INVALID"),
        (_token(sub=""), "TOKEN_SUBJECT_INVALID"),
        (_token(sub="u\x00"), "TOKEN_SUBJECT_INVALID"),
        (_token(sub="x" * 200), "TOKEN_SUBJECT_INVALID"),
        (_token(aud="other"), "TOKEN_AUDIENCE_OTHER"),
        (_raw(aud=5), "TOKEN_AUDIENCE_OTHER"),
        (_token(aud=[]), "TOKEN_AUDIENCE_OTHER"),
        (_token(iss="https://other.example"), "TOKEN_ISSUER_OTHER"),
        (_raw(iss=["https://issuer.example"]), "TOKEN_ISSUER_OTHER"),
        (_token(OTHER_KEY), "TOKEN_SIGNATURE_INVALID"),
        (_token()[:-4] + "AAAA", "TOKEN_SIGNATURE_INVALID"),
        (_token(EC_KEY, algorithm="ES256"), "TOKEN_ALGORITHM_REFUSED"),
        (_token(algorithm="PS256"), "TOKEN_ALGORITHM_REFUSED"),
        (_unsigned(), "TOKEN_ALGORITHM_REFUSED"),
        (_by_public_key(), "TOKEN_ALGORITHM_REFUSED"),
        (_raw(b"5"), "TOKEN_MALFORMED"),
        (_raw(b"[" * 3000), "TOKEN_MALFORMED"),
        (_with_header(b'{"alg":"RS256","kid":' + b"[" * 3000), "TOKEN_MALFORMED"),
        (_with_header(b'{"alg":"RS256","kid":["a"]}'), "TOKEN_MALFORMED"),
        (_with_header(b'{"alg":"RS256","kid":' + b"9" * 4400 + b"}"), "TOKEN_MALFORMED"),
        (_token() + "é", "TOKEN_MALFORMED"),
        ("garbage", "TOKEN_MALFORMED"),
        ("x" * 9000, "TOKEN_MALFORMED"),
        ("", "TOKEN_MISSING"),
    ],
)
def test_bad_token(keys: Path, token: str, reason: str) -> None:
    assert _refusal(_users(keys), _bearer(token)) == (StatusCode.UNAUTHENTICATED, reason)


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
    assert _refusal(_users(keys), lambda: metadata) == (StatusCode.UNAUTHENTICATED, "TOKEN_MALFORMED")


def test_small_clock_differences_are_forgiven(keys: Path) -> None:
    now = int(time.time())
    assert _users(keys).user("", _bearer(_token(exp=now - 5, iat=now + 5))) == "u1"


def test_key_set(tmp_path: Path) -> None:
    """Each token is checked with the key that it names."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [_jwk(RSA_KEY, "a"), _jwk(OTHER_KEY, "b")]}))
    users = _users(path)
    assert users.user("", _bearer(_token(key_id="a"))) == "u1"
    assert users.user("", _bearer(_token(OTHER_KEY, key_id="b"))) == "u1"
    reasons = [_refusal(users, _bearer(token))[1] for token in (_token(key_id="b"), _token(key_id="c"), _token())]
    assert reasons == ["TOKEN_SIGNATURE_INVALID", "TOKEN_KEY_UNKNOWN", "TOKEN_KEY_UNKNOWN"]


def _write(path: Path, *entries: Any) -> Path:
    path.write_text(json.dumps({"keys": entries}))
    return path


@pytest.mark.parametrize("key_id", ["a", None])
def test_a_set_of_one_key_takes_tokens_that_name_none(tmp_path: Path, key_id: str | None) -> None:
    users = _users(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a")))
    assert users.user("", _bearer(_token(key_id=key_id))) == "u1"
    assert _refusal(users, _bearer(_token(key_id="b")))[1] == "TOKEN_KEY_UNKNOWN"


def test_a_lone_key_without_a_name_takes_any(tmp_path: Path) -> None:
    nameless = _jwk(RSA_KEY, "a")
    del nameless["kid"]
    users = _users(_write(tmp_path / "keys.json", nameless))
    assert users.user("", _bearer(_token(key_id="b"))) == users.user("", _bearer(_token())) == "u1"


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
        users = _users(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a"), bad))
    ((told, text),) = logs[0]["keys"].items()
    assert (logs[0]["event"], told) == ("identity.keys_set_aside", name)
    assert text == problem or (problem is None and text)
    assert users.user("", _bearer(_token(key_id="a"))) == "u1"
    assert _refusal(users, _bearer(_token(OTHER_KEY, key_id="b")))[1] == "TOKEN_KEY_UNKNOWN"


def test_a_key_without_a_name_takes_tokens_without_one(tmp_path: Path) -> None:
    users = _users(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a"), _NAMELESS))
    assert users.user("", _bearer(_token(key_id="a"))) == "u1"
    assert users.user("", _bearer(_token(OTHER_KEY))) == "u1"


@pytest.mark.parametrize("entry", [_jwk(RSA_KEY, "b"), _NAMELESS])
def test_keys_of_one_name_are_all_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logs:
        users = _users(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a"), entry, entry))
    assert [*logs[0]["keys"].values()] == ["is there more than once"]
    assert users.user("", _bearer(_token(key_id="a"))) == "u1"
    assert _refusal(users, _bearer(_token(key_id="b")))[1] == "TOKEN_KEY_UNKNOWN"


def test_a_key_verifies_its_own_algorithm_only(tmp_path: Path) -> None:
    policy = TokenPolicy(algorithms=("RS256", "PS256"), audience="feed", issuer="https://issuer.example")
    users = _users(_write(tmp_path / "keys.json", _jwk(RSA_KEY, "a")), policy=policy)
    assert users.user("", _bearer(_token())) == "u1"
    assert _refusal(users, _bearer(_token(algorithm="PS256")))[1] == "TOKEN_ALGORITHM_REFUSED"


def test_refusals_are_counted_and_logged_in_a_paced_way(keys: Path, dogstatsd: DogStatsdServer) -> None:
    """A flood of bad tokens is one line a minute for each reason, which says how many there were."""
    metrics, clock = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge"), FakeClock()
    users = TokenUsers(KeyFile(keys), POLICY, anonymous=False, metrics=metrics, clock=clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            _refusal(users, _bearer("garbage"))
        _refusal(users, _bearer(_token(exp=NOW - 60)))
        clock.now += 61
        _refusal(users, _bearer("garbage"))
    assert [(log["event"], log["reason"], log["calls"]) for log in logs] == [
        ("identity.refused", "TOKEN_MALFORMED", 1),
        ("identity.refused", "TOKEN_EXPIRED", 1),
        ("identity.refused", "TOKEN_MALFORMED", 50),
    ]
    metrics.close()
    tag = "reason:token_malformed"
    wait_for(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.identity.refused", tag)) == 51)


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
        _pem(RSA_KEY).decode() + _pem(OTHER_KEY).decode(),
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
    assert users.user("", _bearer(_token())) == "u1"
    await asyncio.to_thread(keys.write_bytes, _pem(OTHER_KEY))
    seen = len(pauses)
    await until(lambda: len(pauses) > seen + 2)
    assert users.user("", _bearer(_token(OTHER_KEY))) == "u1"
    assert _refusal(users, _bearer(_token()))[1] == "TOKEN_SIGNATURE_INVALID"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_named_users() -> None:
    """Without keys, callers name the user, and tokens are not looked at."""
    assert TrustedCallers().user("u1", _bearer("garbage")) == "u1"


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
    path.write_bytes(_pem(key))
    with pytest.raises(ValueError, match=problem):
        KeyFile(path)


def test_a_weak_key_of_a_set_is_set_aside(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # which is the point
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [_jwk(weak, "weak"), _jwk(RSA_KEY, "good")]}), encoding="utf-8")
    with structlog.testing.capture_logs() as logs:
        KeyFile(path).find("good")
    assert "1024 bits" in logs[0]["keys"]["weak"]
