"""Users by their bearer tokens, signed with real keys."""

import base64
import json
import time
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import StatusCode

from bridge.authentication.authenticator import KeyFile, TokenUsers, TrustedCallers
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.clock import FakeClock
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
from tests.support.dogstatsd import DogStatsdServer
from tests.support.polling import wait_for

EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())


def _no_metadata() -> None:
    """Return what gRPC returns where a call brought nothing."""


@pytest.mark.parametrize("claimed", ["", "u1"])
def test_user_is_the_subject(keys: Path, claimed: str) -> None:
    assert authenticator_of(keys).user(claimed, bearer(signed_token())) == "u1"


def test_other_user_is_denied(keys: Path) -> None:
    assert refusal_of(authenticator_of(keys), bearer(signed_token()), "u2") == (
        StatusCode.PERMISSION_DENIED,
        "OTHER_VIEWER",
    )


def test_no_token(keys: Path) -> None:
    """Nobody gets a named user's feed without a token, also where users may be anonymous."""
    missing = (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert refusal_of(authenticator_of(keys), _no_metadata) == missing
    assert refusal_of(authenticator_of(keys), _no_metadata, "") == missing
    assert refusal_of(authenticator_of(keys, anonymous=True), _no_metadata) == missing
    assert authenticator_of(keys, anonymous=True).user("", _no_metadata) is None


def _unsigned() -> str:
    header, claims, _ = signed_token().split(".")
    plain = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    assert header != plain
    return f"{plain}.{claims}."


def _by_public_key() -> str:
    """A token whose shared secret is the public key: the classic confusion of algorithms."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    body = header + b"." + signed_token().split(".")[1].encode()
    algorithm = jwt.get_algorithm_by_name("HS256")
    mac = algorithm.sign(body, pem_of(RSA_KEY))  # sign() takes any secret, where encode() refuses this one
    return (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


NOW: Final = int(time.time())


def _raw(payload: bytes | None = None, **changes: Any) -> str:
    """A well-signed token of any payload, which libraries would not make."""
    claims = {"sub": "u1", "aud": "feed", "iss": "https://issuer.example", "iat": NOW, "exp": NOW + 3600, **changes}
    return jwt.PyJWS().encode(json.dumps(claims).encode() if payload is None else payload, RSA_KEY, algorithm="RS256")


def _with_header(header: bytes) -> str:
    return ".".join([base64.urlsafe_b64encode(header).rstrip(b"=").decode(), *signed_token().split(".")[1:]])


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed_token(exp=NOW - 60), "TOKEN_EXPIRED"),
        (signed_token(nbf=NOW + 7200), "TOKEN_NOT_YET_VALID"),
        (signed_token(iat=NOW + 7200), "TOKEN_NOT_YET_VALID"),
        (signed_token(exp=NOW + 400 * 86_400), "TOKEN_LIVES_TOO_LONG"),
        (signed_token(exp=None), "TOKEN_CLAIM_MISSING"),
        (signed_token(iat=None), "TOKEN_CLAIM_MISSING"),
        (signed_token(sub=None), "TOKEN_CLAIM_MISSING"),
        (signed_token(aud=None), "TOKEN_CLAIM_MISSING"),
        (signed_token(iss=None), "TOKEN_CLAIM_MISSING"),
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
        (signed_token(sub=""), "TOKEN_SUBJECT_INVALID"),
        (signed_token(sub="u\x00"), "TOKEN_SUBJECT_INVALID"),
        (signed_token(sub="x" * 200), "TOKEN_SUBJECT_INVALID"),
        (signed_token(aud="other"), "TOKEN_AUDIENCE_OTHER"),
        (_raw(aud=5), "TOKEN_AUDIENCE_OTHER"),
        (signed_token(aud=[]), "TOKEN_AUDIENCE_OTHER"),
        (signed_token(iss="https://other.example"), "TOKEN_ISSUER_OTHER"),
        (_raw(iss=["https://issuer.example"]), "TOKEN_ISSUER_OTHER"),
        (signed_token(OTHER_KEY), "TOKEN_SIGNATURE_INVALID"),
        (signed_token()[:-4] + "AAAA", "TOKEN_SIGNATURE_INVALID"),
        (signed_token(EC_KEY, algorithm="ES256"), "TOKEN_ALGORITHM_REFUSED"),
        (signed_token(algorithm="PS256"), "TOKEN_ALGORITHM_REFUSED"),
        (_unsigned(), "TOKEN_ALGORITHM_REFUSED"),
        (_by_public_key(), "TOKEN_ALGORITHM_REFUSED"),
        (_raw(b"5"), "TOKEN_MALFORMED"),
        (_raw(b"[" * 3000), "TOKEN_MALFORMED"),
        (_with_header(b'{"alg":"RS256","kid":' + b"[" * 3000), "TOKEN_MALFORMED"),
        (_with_header(b'{"alg":"RS256","kid":["a"]}'), "TOKEN_MALFORMED"),
        (_with_header(b'{"alg":"RS256","kid":' + b"9" * 4400 + b"}"), "TOKEN_MALFORMED"),
        (signed_token() + "é", "TOKEN_MALFORMED"),
        ("garbage", "TOKEN_MALFORMED"),
        ("x" * 9000, "TOKEN_MALFORMED"),
        ("", "TOKEN_MISSING"),
    ],
)
def test_bad_token(keys: Path, token: str, reason: str) -> None:
    assert refusal_of(authenticator_of(keys), bearer(token)) == (StatusCode.UNAUTHENTICATED, reason)


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Basic dTE6cHc=")],
        [("authorization", signed_token())],
        [("authorization", f"Bearer {signed_token()}")] * 2,
        [("authorization", b"Bearer x")],
    ],
)
def test_bad_header(keys: Path, metadata: Any) -> None:
    assert refusal_of(authenticator_of(keys), lambda: metadata) == (StatusCode.UNAUTHENTICATED, "TOKEN_MALFORMED")


def test_small_clock_differences_are_forgiven(keys: Path) -> None:
    now = int(time.time())
    assert authenticator_of(keys).user("", bearer(signed_token(exp=now - 5, iat=now + 5))) == "u1"


def test_refusals_are_counted_and_logged_in_a_paced_way(keys: Path, dogstatsd: DogStatsdServer) -> None:
    """A flood of bad tokens is one line a minute for each reason, which says how many there were."""
    metrics, clock = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge"), FakeClock()
    users = TokenUsers(KeyFile(keys), POLICY, anonymous=False, metrics=metrics, clock=clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            refusal_of(users, bearer("garbage"))
        refusal_of(users, bearer(signed_token(exp=NOW - 60)))
        clock.now += 61
        refusal_of(users, bearer("garbage"))
    assert [(log["event"], log["reason"], log["calls"]) for log in logs] == [
        ("identity.refused", "TOKEN_MALFORMED", 1),
        ("identity.refused", "TOKEN_EXPIRED", 1),
        ("identity.refused", "TOKEN_MALFORMED", 50),
    ]
    metrics.close()
    tag = "reason:token_malformed"
    wait_for(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.identity.refused", tag)) == 51)


def test_named_users() -> None:
    """Without keys, callers name the user, and tokens are not looked at."""
    assert TrustedCallers().user("u1", bearer("garbage")) == "u1"
