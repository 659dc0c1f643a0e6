"""Nemeses of what callers hold: forged page tokens, forged JSON Web Tokens."""

import base64
import hashlib
import hmac
import json
import random
import time
import zlib
from typing import Any, ClassVar, Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.chaos.load.identities import ALGORITHM, AUDIENCE, ISSUER
from tests.chaos.nemeses.nemesis import Attack, Nemesis
from tests.chaos.system.cluster import Cluster
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub

USER: Final = "u7"
PAUSE_S: Final = 0.01
CALL_S: Final = 5.0
DEEP: Final = 3_000
"""As deep as a call's metadata may be long."""


class Forgery(Nemesis):
    """Calls bridges with something forged, and finds a fault in each answer that is no plain refusal."""

    refusals: ClassVar[frozenset[str]]
    """Codes that are right."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._attack: Attack | None = None
        self._channels = [cluster.channel(bridge.address) for bridge in cluster.bridges.values()]
        self._stubs: list[Any] = [FeedServiceStub(channel) for channel in self._channels]
        self._cases = list(self.cases().items())
        self._number = 0

    def cases(self) -> dict[str, tuple[str, str]]:
        """Return page token and `authorization` of each forgery by its name."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start."""
        self._attack = Attack(self._call, pause_s=PAUSE_S)

    def end(self) -> None:
        """Stop."""
        if self._attack:
            self._attack.stop()
        for channel in self._channels:
            channel.close()

    def _call(self) -> None:
        name, (token, authorization) = self._cases[self._number % len(self._cases)]
        stub = self._stubs[self._number // len(self._cases) % len(self._stubs)]
        self._number += 1
        request = pb.GetRecommendationsRequest(user_id=USER, page_size=20, page_token=token)
        try:
            stub.GetRecommendations(request, timeout=CALL_S, metadata=(("authorization", authorization),))
        except grpc.RpcError as error:
            code = error.code().name
        else:
            code = "OK"
        if code not in self.refusals:
            finding = f"{name}: {code}"
            if finding not in self.findings:
                self.findings.append(finding)


class ForgedPageTokens(Forgery):
    """Page tokens as anybody can make them who knows their layout."""

    name: ClassVar[str] = "forged page tokens"
    refusals: ClassVar[frozenset[str]] = frozenset({"INVALID_ARGUMENT"})

    def cases(self) -> dict[str, tuple[str, str]]:
        """Return tokens whose checksum is right as long as its key is no secret."""
        plains = {
            "page of 4,301 digits": b"s\n" + b"9" * 4301 + b"\nv1",
            "page 10**18": b"s\n1" + b"0" * 18 + b"\nv1",
            "page 0": b"s\n0\nv1",
            "NUL in the session": b"a\0b\n2\nv1",
            "session of 250 kB": b"A" * 250_000 + b"\n2\nv1",
            "served NUL": b"s\n2\na\0b",
            "another's session": b"of-somebody-else\n2\nv1",
            "100,000 videos": b"s\n2\n" + b"\n".join(b"v%d" % number for number in range(100_000)),
        }
        authorization = self.cluster.bearer(USER)[0][1]
        return {name: (forged_page_token(USER, plain), authorization) for name, plain in plains.items()}


class ForgedTokens(Forgery):
    """JSON Web Tokens that say they are somebody's, and are signed by nobody who may."""

    name: ClassVar[str] = "forged JWTs"
    refusals: ClassVar[frozenset[str]] = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})

    def cases(self) -> dict[str, tuple[str, str]]:
        """Return tokens by what is wrong with them."""
        now = int(time.time())
        claims = {"sub": USER, "aud": AUDIENCE, "iss": ISSUER, "iat": now, "exp": now + 600}
        good = self.cluster.bearer(USER)[0][1].removeprefix("Bearer ")
        head, body, signature = good.split(".")
        other = ec.generate_private_key(ec.SECP256R1())
        public = self.cluster.identities.public_key.read_bytes()
        tokens = {
            "no algorithm": _unsigned({"alg": "none"}, claims),
            "public key as a secret": _signed_by_secret(claims, public),
            "another key": jwt.encode(claims, other, algorithm=ALGORITHM),
            "another's": self.cluster.bearer("u8")[0][1].removeprefix("Bearer "),
            "expired": self.cluster.bearer(USER, exp=now - 3600)[0][1].removeprefix("Bearer "),
            "another subject": f"{head}.{_encoded(claims | {'sub': 'u8'})}.{signature}",
            "deep header": f"{_base64(b'[' * DEEP)}.{body}.{signature}",
            "deep claims": f"{head}.{_base64(b'[' * DEEP)}.{signature}",
            "end in 1e300": jwt.encode(claims | {"exp": 1e300}, other, algorithm=ALGORITHM),
            "no parts": "..",
            "nothing": "",
        }
        return {name: ("", f"Bearer {token}") for name, token in tokens.items()}


def forged_page_token(user: str, plain: bytes) -> str:
    """Return a page token with this content, as an attacker makes it who has read the source."""
    request = _checksum(repr(("recommendations", user, "", "", "")).encode())
    body = request + (b"z" + zlib.compress(plain, 9) if len(plain) > 512 else b"p" + plain)
    return _base64(_checksum(body) + body)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8, key=b"2").digest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encoded(claims: dict[str, Any]) -> str:
    return _base64(json.dumps(claims).encode())


def _unsigned(header: dict[str, str], claims: dict[str, Any]) -> str:
    return f"{_encoded({'typ': 'JWT', **header})}.{_encoded(claims)}."


def _signed_by_secret(claims: dict[str, Any], secret: bytes) -> str:
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), 'sha256'))}"
