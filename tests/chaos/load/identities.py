"""Who everybody is: one certificate, renewed as an orchestrator does, and the key that signs users' tokens."""

import time
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from servicekit.credentials.tls_files import TlsFiles
from tests.support.certificates import Authority

AUDIENCE: Final = "feed"
ISSUER: Final = "https://issuer.example"
ALGORITHM: Final = "ES256"
TOKEN_S: Final = 3600


class Identities:
    """The files of certificates and keys.

    Args:
        folder: Where they lie; made.
        name: A name, beside loopback, for which the certificate is valid.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._name = name
        self._authority = Authority(folder, "authority")
        self._renewals = 0
        live = folder / "live"
        self.files = TlsFiles(
            certificate=live / f"{name}.crt", key=live / f"{name}.key", authority=folder / "authority.pem"
        )
        self.renew()
        self.private_key, self.public_key = _key_pair(folder)

    def renew(self) -> None:
        """Issue another certificate; all of its files take the place of the old ones at once."""
        self._renewals += 1
        fresh = self._folder / f"renewed-{self._renewals}"
        fresh.mkdir()
        self._authority.issue(self._name, folder=fresh)
        link = self._folder / "next"
        link.symlink_to(fresh.name)
        link.replace(self._folder / "live")

    def environment(self) -> dict[str, str]:
        """Return the settings of a server's certificate."""
        return {
            "TLS_CERT_FILE": str(self.files.certificate),
            "TLS_KEY_FILE": str(self.files.key),
            "TLS_CA_FILE": str(self.files.authority),
        }

    def token_environment(self) -> dict[str, str]:
        """Return the settings of a bridge that asks for users' tokens."""
        return {
            "USER_KEYS_PATH": str(self.public_key),
            "USER_TOKEN_AUDIENCE": AUDIENCE,
            "USER_TOKEN_ISSUER": ISSUER,
            "USER_TOKEN_ALGORITHMS": f'["{ALGORITHM}"]',
        }


def bearer(private_key: Path, user: str, **changes: Any) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call by the user; changes are other claims."""
    now = int(time.time())
    claims = {"sub": user, "aud": AUDIENCE, "iss": ISSUER, "iat": now, "exp": now + TOKEN_S} | changes
    return (("authorization", f"Bearer {jwt.encode(claims, private_key.read_bytes(), algorithm=ALGORITHM)}"),)


def _key_pair(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "users.key", folder / "users.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
