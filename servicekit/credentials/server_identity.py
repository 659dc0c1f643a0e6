"""Renews a server's certificate and trusted authority with their files, while it serves.

gRPC's core asks for a new configuration at each handshake, and puts a new one in the place of the old one while other
handshakes may be about to take the old one up: it is freed under them, and the process dies. Nothing else keeps the old
one than handshakes that are under way, so before a change one is opened on purpose, in this very process, and left
open. See `tests/servicekit/credentials/test_server_identity.py` for what is relied on.
"""

import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from servicekit.credentials.pinned_handshake import Visit, VisitError, visit
from servicekit.process.periodic_thread import PeriodicThread

if TYPE_CHECKING:
    from servicekit.credentials.tls_files import TlsFiles

INTERVAL_S: Final = 1.0
"""Seconds between two looks at the files."""
HELD_S: Final = 60.0
"""Seconds for which a handshake holds what was replaced; half of what gRPC's core allows a handshake by default."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pem:
    """The contents of an identity's files."""

    key: bytes
    chain: bytes
    authority: bytes

    @classmethod
    def read(cls, files: "TlsFiles") -> "Pem":
        """Return the present contents of the files; OSError if one cannot be read."""
        return cls(files.key.read_bytes(), files.certificate.read_bytes(), files.authority.read_bytes())

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return a new configuration for gRPC, which uses each one once."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authority)

    def certificate(self) -> bytes:
        """Return the server's own certificate, DER."""
        end = b"-----END CERTIFICATE-----"
        head, found, _ = self.chain.partition(end)
        return ssl.PEM_cert_to_DER_cert((head[head.index(b"-----BEGIN") :] + found).decode())


class ServerIdentity:
    """Credentials of one server that follow their files.

    Args:
        files: The identity; OSError where one cannot be read.
        interval_s: Seconds between two looks at them.
    """

    def __init__(self, files: "TlsFiles", *, interval_s: float = INTERVAL_S) -> None:
        self._files = files
        self._interval_s = interval_s
        self._shown = Pem.read(files)
        self._unusable: Pem | None = None
        self._offered: Pem | None = None
        self._lock = threading.Lock()
        self._held: deque[tuple[float, Visit]] = deque()
        self._watching: PeriodicThread | None = None
        self.credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._shown.configuration(),
            self._fetch,  # type: ignore[arg-type]  # None means unchanged
            require_client_authentication=True,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a change once, None afterwards; gRPC's core asks at each handshake."""
        with self._lock:
            offered, self._offered = self._offered, None
        return offered.configuration() if offered else None

    def begin(self, address: str, port: int) -> None:
        """Follow the files from now on; the server listens on the address, and with no other identity."""
        self._watching = PeriodicThread(
            "tls-files",
            partial(self._watch, address, port),
            interval_s=self._interval_s,
            on_failure=self._tell,
            stop_within_s=threading.TIMEOUT_MAX,
        )
        self._watching.start()

    def end(self) -> None:
        """Stop following the files."""
        if self._watching:
            self._watching.stop()
        while self._held:
            self._held.popleft()[1].close()

    def _watch(self, address: str, port: int) -> None:
        while self._held and self._held[0][0] < time.monotonic():
            self._held.popleft()[1].close()
        self._look(address, port)

    def _tell(self, error: Exception) -> None:
        """Log why a renewal cannot be shown."""
        problem, defect = (str(error), None) if isinstance(error, VisitError) else (repr(error), error)
        logger.error("tls.renewal_failed", problem=problem, again_in_s=self._interval_s, exc_info=defect)

    def _look(self, address: str, port: int) -> None:
        try:
            found = Pem.read(self._files)
        except OSError:
            return  # in the middle of their renewal
        if found in (self._shown, self._unusable):
            return
        if problem := self._problem(found):
            self._unusable = found
            logger.warning("tls.files_unusable", problem=problem, certificate=str(self._files.certificate))
        else:
            self._renew(found, address, port)

    def _problem(self, found: Pem) -> str:
        """Return why the contents cannot be shown, such as files renewed only in part; empty if they can."""
        files, context = self._files, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
            context.load_verify_locations(files.authority)
            found.certificate()
        except (OSError, ValueError) as error:
            return str(error)
        return "" if found == _now(files) else "they change"

    def _renew(self, found: Pem, address: str, port: int) -> None:
        """Show the new contents; the handshake left open keeps the former ones in memory."""
        self._held.append((time.monotonic() + HELD_S, visit(address, port)))
        with self._lock:
            self._offered = found
        after = visit(address, port)
        after.close()
        if after.certificate != found.certificate():
            self._unusable = found
            logger.error("tls.renewal_refused", certificate=str(self._files.certificate))
            return
        self._shown = found
        logger.info("tls.renewed", certificate=str(self._files.certificate))


def _now(files: "TlsFiles") -> Pem | None:
    try:
        return Pem.read(files)
    except OSError:
        return None


def _no_password() -> bytes:
    return b""  # else OpenSSL asks the terminal
