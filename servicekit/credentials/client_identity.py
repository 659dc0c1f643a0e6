"""Builds the TLS identity of a client from its files, as they were last read."""

from dataclasses import dataclass
from typing import Self

import grpc

from servicekit.credentials.certificate_life import parse_certificates
from servicekit.credentials.renewal import Contents, Renewed
from servicekit.credentials.tls_files import TlsFiles

CERTIFICATE, KEY, AUTHORITY = "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE"


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsIdentity:
    """A certificate chain, its private key, and the authority whose peers are trusted, all PEM."""

    certificate: bytes
    key: bytes
    authority: bytes

    @classmethod
    def parse(cls, contents: Contents) -> Self:
        """Return the identity in files; ValueError when they do not fit together."""
        check_pair(contents, certificate=CERTIFICATE, key=KEY)
        parse_certificates(AUTHORITY, contents[AUTHORITY])
        return cls(certificate=contents[CERTIFICATE], key=contents[KEY], authority=contents[AUTHORITY])

    def channel(self) -> grpc.ChannelCredentials:
        """Return credentials of a client with a certificate."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


def renewed_identity(files: TlsFiles) -> Renewed[TlsIdentity]:
    """Return the identity in files, renewed with them; OSError or ValueError when they hold none."""
    paths = {CERTIFICATE: files.certificate, KEY: files.key, AUTHORITY: files.authority}
    return Renewed(paths, TlsIdentity.parse, certificates=(CERTIFICATE, AUTHORITY))


def check_pair(contents: Contents, *, certificate: str, key: str) -> None:
    """Raise ValueError unless the private key fits the certificate."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  # slow to import
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415  # likewise

    try:
        first = load_pem_x509_certificates(contents[certificate])[0]
    except ValueError:
        raise ValueError(f"{certificate} holds no certificates in PEM") from None
    try:
        private = load_pem_private_key(contents[key], None)
    except (ValueError, TypeError):
        raise ValueError(f"{key} holds no private key in PEM without a password") from None
    if private.public_key() != first.public_key():
        raise ValueError(f"{key} is not the key of {certificate}")
