"""Loads the public keys of an issuer of users' tokens, from a PEM file or a JSON Web Key Set.

A key that cannot be used is set aside and named, and the others stay usable. Keys are read again beside the calls: no
call ever waits for a key.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm

from bridge.background.job import Job
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.json_fields import JsonObject
from servicekit.telemetry.metrics import NO_METRICS, Metrics

SignatureAlgorithm: TypeAlias = Literal["RS256", "PS256", "ES256", "EdDSA"]
"""Public-key algorithms only: a shared secret would let this server make tokens."""

RELOAD_S: Final = 30.0
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi"})
"""Members of a JSON Web Key that only its owner may know."""
_TYPES: Final = {"RSA": ("RS256", "PS256"), "EC": ("ES256",), "OKP": ("EdDSA",)}
"""What keys of a type can verify."""

logger = structlog.get_logger(__name__)


class UnknownKeyError(LookupError):
    """No usable key has the name that a token gives."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies tokens.

    Attributes:
        algorithms: Those that it may be used with.
        key: The key itself.
        name: Its `kid`; empty where it has none.
    """

    algorithms: tuple[str, ...]
    key: Any
    name: str = ""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a file, and the reasons why others are not usable.

    Attributes:
        keys: By name.
        set_aside: What is wrong with each other key, by its name or its place.
    """

    keys: Mapping[str, PublicKey]
    set_aside: Mapping[str, str]

    def find(self, key_id: str | None) -> PublicKey:
        """Return the key of that name, or the only key for a token without a name; UnknownKeyError otherwise."""
        found = self.keys.get(key_id or "")
        if found is None and len(self.keys) == 1:
            (only,) = self.keys.values()
            found = only if key_id is None or not only.name else None
        if found is None:
            raise UnknownKeyError
        return found


class KeyFile:
    """Public keys from a PEM file with one key, or a JSON Web Key Set.

    Args:
        path: The file; OSError when it cannot be read at the start, ValueError when it holds no usable key.
        metrics: Counts failures to read the file later.
        sleep: Waits between two looks at the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._sleep = sleep
        self._job = Job("user-keys", self._reload, interval_s=RELOAD_S, metrics=metrics, sleep=sleep)
        self._well = True
        self._told: Mapping[str, str] = {}
        self._keys = _read_keys(path)
        self._tell()

    def find(self, key_id: str | None) -> PublicKey:
        """Return the key that a token names; UnknownKeyError when there is none."""
        return self._keys.find(key_id)

    async def keep_fresh(self) -> None:
        """Reload the file when it changes; a file that cannot be read leaves the keys as they are; forever."""
        await self._sleep(RELOAD_S)
        await self._job.run()

    async def _reload(self) -> None:
        try:
            self._keys = await asyncio.to_thread(_read_keys, self._path)
        except (OSError, ValueError) as error:
            if self._well:
                logger.warning("identity.keys_not_read", path=str(self._path), error=str(error))
            self._well = False
        else:
            self._well = True
            self._tell()

    def _tell(self) -> None:
        """Log which keys are not used, whenever they change."""
        if self._keys.set_aside != self._told:
            logger.warning("identity.keys_set_aside", path=str(self._path), keys=dict(self._keys.set_aside))
        self._told = self._keys.set_aside


def _read_keys(path: Path) -> KeySet:
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = JsonObject(text).items("keys") if text.lstrip().startswith("{") else None
        if entries is None:
            return KeySet({"": _pem_key(text)}, {})
        if len(entries) > MAX_KEYS:
            raise ValueError(f"it holds {len(entries)} keys, at most {MAX_KEYS} are read")  # noqa: TRY301
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} holds neither a PEM public key nor a JSON Web Key Set: {error}") from None
    keys = _key_set(entries)
    if not keys.keys:
        problems = "; ".join(f"{name} {problem}" for name, problem in keys.set_aside.items())
        raise ValueError(f"{path} holds no usable key: {problems or 'it is empty'}")
    return keys


def _pem_key(text: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415  # slow to import
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  # likewise

    if text.count("-----BEGIN") != 1:
        raise ValueError("it must hold one PEM block")
    key = load_pem_public_key(text.encode())
    types = ((rsa.RSAPublicKey, "RSA"), (ec.EllipticCurvePublicKey, "EC"), (ed25519.Ed25519PublicKey, "OKP"))
    name = next((name for kind, name in types if isinstance(key, kind)), "")
    if not name:
        raise ValueError("its key is of a type that is not supported")
    _require_strength(key)
    return PublicKey(_TYPES[name], key)


def _require_strength(key: Any) -> None:
    """Refuse keys that are weaker than RFC 7518 allows; ValueError names the accepted sizes."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415  # slow to import

    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ValueError(f"has {key.key_size} bits, at least {MIN_RSA_BITS} are needed")
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"is of the curve {key.curve.name}, ES256 needs P-256")  # noqa: TRY004  # as all that is wrong with a key


def _key_set(entries: Iterable[Any]) -> KeySet:
    keys: list[PublicKey] = []
    set_aside: dict[str, str] = {}
    for place, entry in enumerate(entries):
        try:
            keys.append(_key(entry))
        except Exception as error:  # noqa: BLE001  # a key is data, whatever it makes libraries raise
            set_aside[_title(entry, place)] = str(error) or type(error).__name__
    repeated = [name for name, count in Counter(key.name for key in keys).items() if count > 1]
    for name in repeated:  # which one is meant nobody knows, and to try both is to trust both
        set_aside[name or "without kid"] = "is there more than once"
    return KeySet({key.name: key for key in keys if key.name not in repeated}, set_aside)


def _key(entry: Any) -> PublicKey:
    """Return the key of an entry of a set; ValueError says why it may not verify tokens."""
    fields = entry if isinstance(entry, dict) else {}
    kind, use, operations, algorithm = (fields.get(name) for name in ("kty", "use", "key_ops", "alg"))
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError("is a shared secret" if kind == "oct" else "is of a type that is not supported")
    if _PRIVATE & fields.keys():
        raise ValueError("is a private key: replace it, as others may have read it")
    verifies = operations is None or (isinstance(operations, list) and "verify" in operations)
    if use not in (None, "sig") or not verifies:
        raise ValueError("is not for verifying signatures")
    possible = _TYPES[kind]
    if algorithm is not None and algorithm not in possible:
        raise ValueError(f"is for an algorithm other than {', '.join(possible)}")
    name = fields.get("kid")
    if name is not None and (not isinstance(name, str) or identifier_problem(name)):
        raise ValueError("has a kid that is no text of 1 to 128 bytes")
    allowed = (algorithm,) if algorithm else possible
    key = jwt.PyJWK(fields, algorithm or possible[0]).key
    _require_strength(key)
    return PublicKey(allowed, key, name or "")


def _title(entry: Any, place: int) -> str:
    """Return the name of an entry of a set for logs: its key id if that is safe to print, else its place."""
    name = entry.get("kid") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name and not identifier_problem(name) else f"number {place + 1}"
