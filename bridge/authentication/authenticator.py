"""Identifies the user of a call: by the subject of a bearer token where tokens are required."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import structlog
from grpc import StatusCode

from bridge.authentication.user_keys import KeyFile, SignatureAlgorithm
from bridge.authentication.user_token import BadTokenError, TokenFault, TokenPolicy, read_subject
from bridge.domain.deadline import Clock
from servicekit.grpc.errors import ServiceError
from servicekit.telemetry.metrics import NO_METRICS, Metric, Metrics

__all__ = ["KeyFile", "Metadata", "SignatureAlgorithm", "TokenPolicy", "TokenUsers", "TrustedCallers", "Users"]

Metadata: TypeAlias = Callable[[], Iterable[tuple[str, str | bytes]] | None]
"""Returns the metadata of a call; reading it takes time, so it is left alone where tokens are not asked for."""

LOG_PAUSE_S: Final = 60.0
"""Seconds between two log lines of one reason for refusals, each of which says how many there were."""
_SCHEME: Final = "bearer "

logger = structlog.get_logger(__name__)


class TokenUsers:
    """Takes users from the bearer tokens of calls.

    Args:
        keys: Of the tokens' issuer.
        policy: Which tokens are good.
        anonymous: Whether a call may come without a token, and then without a user.
        metrics: Counts refusals.
        now: Seconds since 1970.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        keys: KeyFile,
        policy: TokenPolicy,
        *,
        anonymous: bool,
        metrics: Metrics = NO_METRICS,
        now: Callable[[], float] = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        self._keys = keys
        self._policy = policy
        self._anonymous = anonymous
        self._now = now
        self._refusals = _Refusals(metrics, clock)

    def user(self, claimed_id: str, metadata: Metadata) -> str | None:
        """Return the user's id, None for an anonymous one.

        Args:
            claimed_id: The user that the request names, or empty.
            metadata: Of the call.

        Raises:
            ServiceError: UNAUTHENTICATED for a missing or bad token, PERMISSION_DENIED for that of another user.
        """
        try:
            token = _bearer_token(metadata)
            if not token:
                if self._anonymous and not claimed_id:
                    return None
                raise BadTokenError(TokenFault.MISSING, "a bearer token is required")  # noqa: TRY301  # one way out
            subject = read_subject(token, self._keys, self._policy, self._now())
            if claimed_id not in ("", subject):
                raise BadTokenError(TokenFault.OTHER_USER, "the token is that of another user")  # noqa: TRY301
        except BadTokenError as error:
            self._refusals.note(error)
            denied = error.fault is TokenFault.OTHER_USER
            code = StatusCode.PERMISSION_DENIED if denied else StatusCode.UNAUTHENTICATED
            raise ServiceError(code, error.fault, error.detail) from None
        return subject


class TrustedCallers:
    """Takes users as authenticated callers, or callers on this machine, name them."""

    def user(self, claimed_id: str, metadata: Metadata) -> str | None:  # noqa: ARG002  # as TokenUsers
        """Return the user that the request names."""
        return claimed_id


Users: TypeAlias = TokenUsers | TrustedCallers


class _Refusals:
    """Counts refused tokens by reason, and logs each reason once in a while, with how many calls it met."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._counts: Counter[TokenFault] = Counter()
        self._quiet_until: dict[TokenFault, float] = {}

    def note(self, error: BadTokenError) -> None:
        fault, now = error.fault, self._clock()
        self._metrics.count(Metric.TOKEN_REFUSED, tags=[f"reason:{fault.lower()}"])
        self._counts[fault] += 1
        if now >= self._quiet_until.get(fault, now):
            logger.warning("identity.refused", reason=fault.value, detail=error.detail, calls=self._counts.pop(fault))
            self._quiet_until[fault] = now + LOG_PAUSE_S


def _bearer_token(metadata: Metadata) -> str:
    values = [value for name, value in metadata() or () if name == "authorization"]
    if not values:
        return ""
    (value, *others) = values
    if others or not isinstance(value, str) or not value.lower().startswith(_SCHEME):
        raise BadTokenError(TokenFault.MALFORMED, "the call must bear one `authorization: Bearer <token>`")
    return value[len(_SCHEME) :].strip()
