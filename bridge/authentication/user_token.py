"""Verifies a user's bearer token, check by check, each with a reason of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import jwt

from bridge.authentication.user_keys import KeyFile, PublicKey, SignatureAlgorithm, UnknownKeyError
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.numbers import finite

LEEWAY_S: Final = 30.0
"""How far the clocks of the issuer and of this machine may be apart."""
MAX_TOKEN_BYTES: Final = 8192
"""Metadata of a call is bounded to about as much anyway."""
LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999."""
MAX_LIFETIME_S: Final = 31 * 86_400.0


_JWS: Final = jwt.PyJWS()


class TokenFault(StrEnum):
    """Reasons to refuse a token: part of the caller's error, and a metric's tag."""

    MISSING = "TOKEN_MISSING"
    MALFORMED = "TOKEN_MALFORMED"
    ALGORITHM = "TOKEN_ALGORITHM_REFUSED"
    KEY_UNKNOWN = "TOKEN_KEY_UNKNOWN"
    SIGNATURE = "TOKEN_SIGNATURE_INVALID"
    CLAIM_MISSING = "TOKEN_CLAIM_MISSING"
    CLAIM_INVALID = "TOKEN_CLAIM_INVALID"
    EXPIRED = "TOKEN_EXPIRED"
    EARLY = "TOKEN_NOT_YET_VALID"
    LIFETIME = "TOKEN_LIVES_TOO_LONG"
    AUDIENCE = "TOKEN_AUDIENCE_OTHER"
    ISSUER = "TOKEN_ISSUER_OTHER"
    SUBJECT = "TOKEN_SUBJECT_INVALID"
    OTHER_USER = "OTHER_VIEWER"


class BadTokenError(Exception):
    """A token that is refused.

    Attributes:
        fault: Why.
        detail: The same in words, for the caller; nothing of the token's own.
    """

    def __init__(self, fault: TokenFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPolicy:
    """The requirements on tokens.

    Attributes:
        algorithms: Signature algorithms that are accepted, whatever a token says of itself.
        audience: `aud` must name it.
        issuer: `iss` must be it.
        max_lifetime_s: Seconds from `iat` to `exp` at most.
    """

    algorithms: Sequence[SignatureAlgorithm]
    audience: str
    issuer: str
    max_lifetime_s: float = MAX_LIFETIME_S


def read_subject(token: str, keys: KeyFile, policy: TokenPolicy, now: float) -> str:
    """Return the user of a token; BadTokenError when the token is refused.

    Args:
        token: The text.
        keys: Of the issuer.
        policy: Which tokens are good.
        now: Seconds since 1970.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise BadTokenError(TokenFault.MALFORMED, f"the bearer token is longer than {MAX_TOKEN_BYTES} bytes")
    claims = _verified(token, keys, policy)
    for name in ("exp", "iat", "sub", "aud", "iss"):
        if claims.get(name) is None:
            raise BadTokenError(TokenFault.CLAIM_MISSING, f"the bearer token lacks `{name}`")
    _check_times(claims, policy, now)
    audience = claims["aud"]
    if policy.audience not in (audience if isinstance(audience, list) else [audience]):
        raise BadTokenError(TokenFault.AUDIENCE, "the bearer token is for another audience (`aud`)")
    if claims["iss"] != policy.issuer:
        raise BadTokenError(TokenFault.ISSUER, "the bearer token is of another issuer (`iss`)")
    subject = claims["sub"]
    if not isinstance(subject, str) or identifier_problem(subject):
        raise BadTokenError(TokenFault.SUBJECT, "the bearer token's `sub` is no user id")
    return subject


def _verified(token: str, keys: KeyFile, policy: TokenPolicy) -> Mapping[str, Any]:
    """Return the claims of a token whose signature is good."""
    try:
        header = jwt.get_unverified_header(token)
        key = _key(header, keys, policy)
        claims = _JWS.decode(token, key.key, algorithms=[header["alg"]])
        fields = json.loads(claims)
    except BadTokenError:
        raise
    except jwt.InvalidSignatureError:
        raise BadTokenError(TokenFault.SIGNATURE, "the bearer token's signature is wrong") from None
    except jwt.InvalidAlgorithmError:
        raise BadTokenError(TokenFault.ALGORITHM, "the bearer token's `alg` is not accepted") from None
    except Exception:  # noqa: BLE001  # a token is data, whatever it makes libraries raise
        raise BadTokenError(TokenFault.MALFORMED, "the bearer token is no signed JWT") from None
    if not isinstance(fields, dict):
        raise BadTokenError(TokenFault.MALFORMED, "the bearer token's claims are no JSON object")
    return fields


def _key(header: Mapping[str, Any], keys: KeyFile, policy: TokenPolicy) -> PublicKey:
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in policy.algorithms:
        raise BadTokenError(TokenFault.ALGORITHM, f"the bearer token's `alg` must be {' or '.join(policy.algorithms)}")
    if key_id is not None and not isinstance(key_id, str):
        raise BadTokenError(TokenFault.MALFORMED, "the bearer token's `kid` is no text")
    try:
        key = keys.find(key_id)
    except UnknownKeyError:
        detail = "names a key (`kid`) that is not known" if key_id else "names no key (`kid`), and there are several"
        raise BadTokenError(TokenFault.KEY_UNKNOWN, f"the bearer token {detail}") from None
    if algorithm not in key.algorithms:
        raise BadTokenError(TokenFault.ALGORITHM, "the bearer token's `alg` is not that of its key")
    return key


def _check_times(claims: Mapping[str, Any], policy: TokenPolicy, now: float) -> None:
    expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
    starts = issued if claims.get("nbf") is None else max(issued, _seconds(claims, "nbf"))
    if expires <= now - LEEWAY_S:
        raise BadTokenError(TokenFault.EXPIRED, "the bearer token has expired (`exp`)")
    if starts > now + LEEWAY_S:
        raise BadTokenError(TokenFault.EARLY, "the bearer token is not valid yet (`iat`, `nbf`)")
    if expires - issued > policy.max_lifetime_s:
        detail = f"the bearer token lives for more than {policy.max_lifetime_s:.0f} s (`iat` to `exp`)"
        raise BadTokenError(TokenFault.LIFETIME, detail)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    try:
        return finite(claims[name], least=0, most=LAST_SECOND)
    except ValueError:
        raise BadTokenError(TokenFault.CLAIM_INVALID, f"the bearer token's `{name}` is no number of seconds") from None
