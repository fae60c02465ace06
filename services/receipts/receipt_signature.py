"""Sign and read receipts: flattened JWS in JSON (RFC 7515, section 7.2.2) with Ed25519 (RFC 8037).

Any JOSE tool can check a receipt. A text is created once and compared byte for byte: a text that is not exactly as it
was created is refused, even if its signature is valid.
"""

import binascii
import json
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from visual_memory.schemas.receipt import PublicKey

ENTRY = "visual-memory-log-entry"
RECEIPT = "visual-memory-receipt"
END = "visual-memory-log-end"
MIRROR = "visual-memory-mirror"
"""The header's ``typ`` of each kind of signed text, so that none of them passes for another."""

ALGORITHM = "EdDSA"
MEMBERS = ("payload", "protected", "signature")
SIGNATURE_BYTES = 64


class NotValid(Exception):
    """A text is not validly signed, or was changed; the message is a sentence."""


@dataclass(frozen=True)
class Signed:
    """A signed payload, and the ``typ`` that it was signed as."""

    type: str
    payload: dict[str, Any]


class _Registry(JWSRegistry):
    """Allows Ed25519 alone, by its older name: few tools know the name that RFC 9864 gave it."""

    max_payload_length = 16 * 2**20

    def __init__(self) -> None:
        super().__init__(algorithms=[ALGORITHM])

    def get_alg(self, name: str) -> Any:
        """Return the algorithm, without the library's warning about its name."""
        if name != ALGORITHM:
            raise NotValid(f"its algorithm is {name}, not {ALGORITHM}")
        return self.algorithms[name]


class ReceiptChecker:
    """Reads texts that were signed with one key.

    Args:
        key: the public key, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": _encoded(key)})
        self.key = PublicKey(x=_encoded(key), kid=self._key.thumbprint(), base64=b64encode(key).decode())

    @classmethod
    def of(cls, key_text: str) -> "ReceiptChecker":
        """Parse a public key: a JSON Web Key, or 32 bytes in base64.

        Raises:
            ValueError: the text is neither.
        """
        refusal = ValueError("no public key: give the JSON of `visual-memory receipts key`, or 32 bytes in base64")
        try:
            if not key_text.lstrip().startswith("{"):
                key = b64decode(key_text.strip(), validate=True)
            else:
                jwk = json.loads(key_text)
                if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
                    raise refusal
                key = _decoded(jwk["x"])
            return cls(key)
        except (ValueError, KeyError, TypeError, AttributeError, JoseError):
            raise refusal from None

    def read(self, text: str) -> Signed:
        """Check a text's signature, and return what was signed.

        Raises:
            NotValid: the text was not signed with the key, or was changed.
        """
        members = _members(text)
        try:
            header, payload = (json.loads(_decoded(members[name])) for name in ("protected", "payload"))
        except (ValueError, TypeError):
            raise NotValid("it is damaged") from None
        if not isinstance(header, dict) or header.keys() != {"alg", "kid", "typ"} or not isinstance(payload, dict):
            raise NotValid("it is no receipt of this service")
        if header["kid"] != self.key.kid:
            raise NotValid(f"it is signed with another key: {header['kid']}, not {self.key.kid}")
        try:
            jws.deserialize_json({**members}, self._key, registry=_Registry())  # type: ignore[call-overload]
        except (JoseError, ValueError, TypeError):
            raise NotValid("its signature is not valid: it was changed after it was signed") from None
        return Signed(str(header["typ"]), payload)


class ReceiptSigner(ReceiptChecker):
    """Signs texts, and reads them.

    Args:
        seed: 32 secret bytes, from which the key pair is derived (RFC 8032).
    """

    def __init__(self, seed: bytes) -> None:
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        super().__init__(public)
        self._pair = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": _encoded(public), "d": _encoded(seed)})

    def sign(self, kind: str, payload: Mapping[str, Any]) -> str:
        """Sign a payload; equal payloads give equal texts, byte for byte."""
        header = {"alg": ALGORITHM, "kid": self.key.kid, "typ": kind}
        members = jws.serialize_json({"protected": header}, canonical_json(payload), self._pair, registry=_Registry())
        return _joined({name: str(members[name]) for name in MEMBERS})  # type: ignore[literal-required]


def canonical_json(value: Any) -> bytes:
    """Serialise as JSON in UTF-8, with sorted keys and without whitespace."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def format_time(moment: datetime) -> str:
    """Format a time in UTC, as ISO 8601."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Parse a time that `format_time` formatted."""
    return datetime.fromisoformat(text)


def digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return sha256(text.encode()).hexdigest()


def _members(text: str) -> dict[str, str]:
    """The three members of a text that is exactly as it was created."""
    try:
        members = json.loads(text)
        made = _joined(members)
        signature = _decoded(members["signature"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NotValid("it is no receipt, or damaged") from None
    if members.keys() != {*MEMBERS} or not all(isinstance(each, str) for each in members.values()):
        raise NotValid("it is no receipt, or damaged")
    if made != text or _encoded(signature) != members["signature"] or len(signature) != SIGNATURE_BYTES:
        raise NotValid("it is not byte for byte as it was issued")
    return {name: members[name] for name in MEMBERS}


def _joined(members: Mapping[str, str]) -> str:
    return canonical_json(members).decode()


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("no base64url") from error
