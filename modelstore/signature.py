"""Signs models by Ed25519 (RFC 8032) over the manifest, which holds the version's name and all files' digests.

A signature stands beside the manifest under a name that has the manifest's digest in it: `manifest.<sha256>.sig`. The
pointer holds that digest as well, so pointer, manifest and signature can only be taken together. The pointer is not
signed, since operators move it without the private key: whoever can write to the store can go back to an older signed
version, and to nothing else.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

_PURPOSE: Final = b"videowindow model manifest 1\n"
"""Stands before what is signed, so that a signature for anything else cannot pass for a model's."""
_PUBLIC: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class SignatureError(Exception):
    """The model is not signed by a known key."""


def signature_name(manifest_sha256: str) -> str:
    """Return the name of the signature of the manifest with this digest, in hexadecimal."""
    return f"manifest.{manifest_sha256}.sig"


class SigningKey:
    """Signs manifests by a private key.

    Args:
        key: The private key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def parse(cls, pem: str) -> "SigningKey":
        """Return the key in a PEM text; ValueError, which quotes nothing of the text, when it holds no key."""
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("is not an unencrypted Ed25519 private key in PEM")  # noqa: TRY004  # it is no text of one
        return cls(key)

    @classmethod
    def generate(cls) -> "SigningKey":
        """Return a new key."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, manifest: bytes) -> bytes:
        """Return the signature of a manifest, one line of text."""
        return base64.b64encode(self._key.sign(_PURPOSE + manifest)) + b"\n"

    def private_pem(self) -> bytes:
        """Return the private key in PEM, to be kept secret."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> bytes:
        """Return the public key in PEM, by which servers verify."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifier(self) -> "Verifier":
        """Return the verifier of this key's signatures."""
        return Verifier([self._key.public_key()])


class Verifier:
    """Verifies that one of several keys signed a manifest; several allow a change of keys without a gap.

    Args:
        keys: The public keys, at least one.
    """

    def __init__(self, keys: Sequence[Ed25519PublicKey]) -> None:
        self._keys = keys

    @classmethod
    def parse(cls, pem: str) -> "Verifier":
        """Return the verifier of the public keys in a PEM text; ValueError for none, or for one that is not Ed25519."""
        keys = []
        for block in _PUBLIC.findall(pem.encode()):
            try:
                key = load_pem_public_key(block)
            except (ValueError, UnsupportedAlgorithm):
                key = None
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError("holds a key that is not an Ed25519 public key")  # noqa: TRY004  # as above
            keys.append(key)
        if not keys:
            raise ValueError("holds no Ed25519 public key in PEM")
        return cls(keys)

    def check(self, manifest: bytes, signature: bytes | None) -> None:
        """Raise SignatureError unless one of the keys has signed the manifest."""
        if signature is None:
            raise SignatureError("the model is not signed")
        try:
            raw = base64.b64decode(signature, validate=False)
        except binascii.Error:
            raw = b""
        if not any(_fits(key, raw, manifest) for key in self._keys):
            raise SignatureError("the model's signature is by none of the known keys")


def _fits(key: Ed25519PublicKey, signature: bytes, manifest: bytes) -> bool:
    try:
        key.verify(signature, _PURPOSE + manifest)
    except InvalidSignature:
        return False
    return True
