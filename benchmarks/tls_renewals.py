"""Counts failed TLS handshakes with a server whose certificate is renewed meanwhile.

Both kinds of server, each in a process of its own; whole connections, eight at once, with client certificates. A
renewal counts as shown when a new connection gets the new certificate. TLS_HANDSHAKES is how many handshakes there are.
"""

import tempfile
from pathlib import Path

from benchmarks import knob
from benchmarks.report import Row
from tests.support.grpc.tls_storm import KINDS, storm

HANDSHAKES = knob.whole("TLS_HANDSHAKES", 20_000)
RENEWALS = 20


def run() -> dict[str, list[Row]]:
    """Run the handshakes against each kind of server."""
    return {f"{HANDSHAKES} handshakes, {RENEWALS} renewals": [_row(kind) for kind in KINDS]}


def _row(kind: str) -> Row:
    with tempfile.TemporaryDirectory(prefix="bench-tls-") as name:
        found = storm(kind, Path(name), handshakes=HANDSHAKES, renewals=RENEWALS)
    return {
        "server": kind,
        "handshakes": found.done,
        "failed": len(found.failed),
        "renewals shown": found.renewals_shown,
        "server at the end": "alive" if found.status is None else f"ended with {found.status}",
        "handshakes/s": round(found.done / found.seconds),
    }
