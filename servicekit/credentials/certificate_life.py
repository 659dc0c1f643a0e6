"""Reports how long certificates are valid, and warns ahead of their end."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import structlog

from servicekit.telemetry.metrics import Metric, Metrics

WARN_DAYS: Final = timedelta(days=7)
WARN_SHARE: Final = 5
"""Of certificates that live for weeks or less, the last fifth of their life is what is warned of."""
AUTHORITY: Final = "CA_FILE"
"""Ends the names of settings whose files hold several certificates, of which old ones may stay for a while."""

logger = structlog.get_logger(__name__)
_warned: Final[dict[tuple[str, datetime], None]] = {}


class Life(NamedTuple):
    """The validity of a certificate."""

    begin: datetime
    end: datetime


def lives(files: Mapping[str, bytes]) -> dict[str, Life]:
    """Return the validity of each file's certificate: the first one of a chain, the youngest of authorities."""
    found = {}
    for name, content in files.items():
        every = parse_certificates(name, content)
        found[name] = max(every, key=lambda life: life.end) if name.endswith(AUTHORITY) else every[0]
    return found


def parse_certificates(name: str, content: bytes) -> list[Life]:
    """Return the validity of the certificates in a PEM file, at least one; ValueError if it holds none."""
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415  # slow to import

    try:
        found = load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"{name} holds no certificates in PEM") from None
    return [Life(one.not_valid_before_utc, one.not_valid_after_utc) for one in found]


def report(found: Mapping[str, Life], metrics: Metrics, *, now: datetime | None = None) -> None:
    """Report the validity of certificates, and warn of each once when its end is near."""
    moment = now or datetime.now(UTC)
    for name, life in found.items():
        left = life.end - moment
        metrics.gauge(Metric.CERTIFICATE_LIFE, left.total_seconds(), tags=[f"file:{name.lower()}"])
        near = min(WARN_DAYS, (life.end - life.begin) / WARN_SHARE)
        if left < near and (name, life.end) not in _warned:
            _warned[name, life.end] = None
            logger.warning("certificate.expires", setting=name, at=life.end.isoformat(), left_h=round(left / _HOUR, 1))


_HOUR: Final = timedelta(hours=1)
