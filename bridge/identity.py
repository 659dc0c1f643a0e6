"""Who the viewer is: the subject of a bearer token, where tokens are asked for.

Keys come from a file, which is read again from time to time beside the calls: no call ever waits for a key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import jwt
import structlog
from grpc import StatusCode

from servicekit.errors import ServiceError
from servicekit.validation import identifier_problem

SignatureAlgorithm: TypeAlias = Literal["RS256", "PS256", "ES256", "EdDSA"]
"""Public-key algorithms only: a shared secret would let this server make tokens."""

Metadata: TypeAlias = Callable[[], Iterable[tuple[str, str | bytes]] | None]
"""Returns the metadata of a call; reading it takes time, so it is left alone where tokens are not asked for."""

LEEWAY_S: Final = 30.0
"""How far the clocks of the issuer and of this machine may be apart."""
RELOAD_S: Final = 30.0
_SCHEME: Final = "bearer "

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPolicy:
    """Which tokens are good.

    Attributes:
        algorithms: Signature algorithms that are accepted, whatever a token says of itself.
        audience: `aud` must name it.
        issuer: `iss` must be it.
    """

    algorithms: Sequence[SignatureAlgorithm]
    audience: str
    issuer: str


class KeyFile:
    """Public keys from a PEM file with one key, or a JSON Web Key Set.

    Args:
        path: The file; OSError when it cannot be read at the start, ValueError when it holds no keys.
        sleep: Waits between two looks at the file.
    """

    def __init__(self, path: Path, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._keys = _read_keys(path)

    def find(self, key_id: str | None) -> Any:
        """Return the key of that name, or the only one; KeyError when there is none."""
        return self._keys[""] if "" in self._keys else self._keys[key_id or ""]

    async def keep_fresh(self) -> None:
        """Take changes of the file in; what cannot be read leaves the keys as they are; forever."""
        well = True
        while True:
            await self._sleep(RELOAD_S)
            try:
                self._keys = await asyncio.to_thread(_read_keys, self._path)
                well = True
            except (OSError, ValueError) as error:
                if well:
                    logger.warning("identity.keys_not_read", path=str(self._path), error=str(error))
                well = False


def _read_keys(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        if not text.lstrip().startswith("{"):
            return {"": _public_key(text)}
        keys = {key.key_id or "": key for key in jwt.PyJWKSet.from_json(text).keys}
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        raise ValueError(f"{path} holds neither a PEM public key nor a JSON Web Key Set") from None
    if any(key.key_type == "oct" for key in keys.values()):
        raise ValueError(f"{path} holds a shared secret: only public keys are accepted")
    return keys


def _public_key(text: str) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  # slow to import

    return load_pem_public_key(text.encode())


class TokenViewers:
    """Takes viewers from the bearer tokens of calls.

    Args:
        keys: Of the tokens' issuer.
        policy: Which tokens are good.
        anonymous: Whether a call may come without a token, and then without a viewer.
    """

    def __init__(self, keys: KeyFile, policy: TokenPolicy, *, anonymous: bool) -> None:
        self._keys = keys
        self._policy = policy
        self._anonymous = anonymous

    def viewer(self, claimed_id: str, metadata: Metadata) -> str | None:
        """Return the viewer's id, None for an anonymous one.

        Args:
            claimed_id: The viewer that the request names, or empty.
            metadata: Of the call.

        Raises:
            ServiceError: UNAUTHENTICATED for a missing or bad token, PERMISSION_DENIED for that of another viewer.
        """
        token = _bearer_token(metadata)
        if not token:
            if self._anonymous and not claimed_id:
                return None
            raise _unauthenticated("TOKEN_MISSING", "a bearer token is required")
        subject = self._subject(token)
        if claimed_id not in ("", subject):
            raise ServiceError(StatusCode.PERMISSION_DENIED, "OTHER_VIEWER", "the token is that of another viewer")
        return subject

    def _subject(self, token: str) -> str:
        policy = self._policy
        try:
            key = self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[*policy.algorithms],
                audience=policy.audience,
                issuer=policy.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise _unauthenticated("TOKEN_EXPIRED", "the bearer token has expired") from None
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            raise _unauthenticated("TOKEN_INVALID", "the bearer token is not valid") from None
        subject: str = claims["sub"]
        if identifier_problem(subject):
            raise _unauthenticated("TOKEN_INVALID", "the bearer token names no viewer")
        return subject


class NamedViewers:
    """Takes viewers as authenticated callers, or callers on this machine, name them."""

    def viewer(self, claimed_id: str, metadata: Metadata) -> str | None:  # noqa: ARG002  # as TokenViewers
        """Return the viewer that the request names."""
        return claimed_id


Viewers: TypeAlias = TokenViewers | NamedViewers


def _bearer_token(metadata: Metadata) -> str:
    values = [value for name, value in metadata() or () if name == "authorization"]
    if not values:
        return ""
    (value, *others) = values
    if others or not isinstance(value, str) or not value.lower().startswith(_SCHEME):
        raise _unauthenticated("TOKEN_INVALID", "the call must bear one `authorization: Bearer <token>`")
    return value[len(_SCHEME) :].strip()


def _unauthenticated(reason: str, message: str) -> ServiceError:
    return ServiceError(StatusCode.UNAUTHENTICATED, reason, message)
