"""Keys, and tokens that are signed with them."""

import time
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc import StatusCode

from bridge.authentication.authenticator import KeyFile, Metadata, TokenPolicy, TokenUsers
from servicekit.grpc.errors import ServiceError

RSA_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)


OTHER_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)


POLICY: Final = TokenPolicy(algorithms=("RS256",), audience="feed", issuer="https://issuer.example")


def pem_of(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public


def authenticator_of(path: Path, *, anonymous: bool = False, policy: TokenPolicy = POLICY) -> TokenUsers:
    return TokenUsers(KeyFile(path), policy, anonymous=anonymous)


def signed_token(key: Any = RSA_KEY, *, algorithm: str = "RS256", key_id: str | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {"sub": "u1", "aud": "feed", "iss": "https://issuer.example", "iat": now, "exp": now + 3600, **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


def bearer(token: str) -> Metadata:
    return lambda: [("user-agent", "test"), ("authorization", f"Bearer {token}")]


def refusal_of(users: TokenUsers, metadata: Any, claimed: str = "u1") -> tuple[StatusCode, str]:
    with pytest.raises(ServiceError) as caught:
        users.user(claimed, metadata)
    return caught.value.code, caught.value.reason
