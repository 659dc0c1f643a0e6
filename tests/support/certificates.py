"""Certificates of an authority that exists for one test."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from servicekit.credentials.tls_files import TlsFiles

LIFE: Final = timedelta(days=1)


class Authority:
    """Signs identities and leaves their files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._path = folder / f"{name}.pem"
        certificate = _builder(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        _write_certificate(self._path, certificate.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *, folder: Path | None = None) -> TlsFiles:
        """Return a new identity, valid on loopback, that trusts this authority; its files may lie in another folder."""
        folder = folder or self._folder
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        certificate = _builder(_name(name), self._name, key.public_key()).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        files = TlsFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key", authority=self._path)
        _write_certificate(files.certificate, certificate.sign(self._key, hashes.SHA256()))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), now - timedelta(minutes=1), now + LIFE
    )


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
