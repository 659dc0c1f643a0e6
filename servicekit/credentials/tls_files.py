"""Decides who may connect: plain text on loopback only, mutual TLS everywhere else."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import grpc

from servicekit.credentials.server_identity import ServerIdentity


class ClientTls(Protocol):
    """The identity of a client."""

    def channel(self) -> grpc.ChannelCredentials:
        """Return credentials of a client with a certificate."""


class InsecureListenError(ValueError):
    """A server was asked to listen beyond this machine without TLS and authenticated callers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """Paths of one identity: certificate chain, private key, and the authority whose peers are trusted (all PEM)."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, authority: Path | None) -> Self | None:
        """Return the files, or None if none is given; ValueError if only some are."""
        if certificate and key and authority:
            return cls(certificate=certificate, key=key, authority=authority)
        if certificate or key or authority:
            raise ValueError("TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE go together")
        return None

    def server(self) -> ServerIdentity:
        """Return the identity of one server, which demands a client certificate and follows renewed files."""
        return ServerIdentity(self)

    def channel(self) -> grpc.ChannelCredentials:
        """Return credentials of a client with a certificate."""
        return grpc.ssl_channel_credentials(
            self.authority.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach `host:port` (or `unix:path`)."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_credentials(address: str, tls: TlsFiles | None) -> ServerIdentity | None:
    """Return the identity to listen with, None for plain text; InsecureListenError beyond loopback without TLS."""
    if tls is None and not is_loopback(address):
        raise InsecureListenError(
            f"{address} is reachable from other machines: set TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE"
        )
    return tls.server() if tls else None
