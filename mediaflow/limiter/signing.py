"""Keys: what signs stream ids and stream tokens, and how replicas come to agree on them.

One private key stands behind both: tokens are signed with it (others verify them by its public half), and the
secret of stream ids is derived from it. It comes from ``token_key``, or is made once for the namespace and
kept in Redis. While Redis is away and no key is known yet, ids are signed with the key that this process would
propose; it goes on accepting them later, other replicas do not. Set ``token_key`` where that matters.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm

from mediaflow.settings import SettingsError

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

_ALGORITHMS: Mapping[str, Algorithm] = {
    "EdDSA": OKPAlgorithm(),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
}


class Signer(NamedTuple):
    """A private key and what is derived from it.

    Attributes:
        algorithm: Of tokens: ``EdDSA`` or ``ES256``.
        key_id: Names the public key in ``/.well-known/jwks.json`` and in each token's header.
        id_secret: Signs stream ids.
        token_head: The header of each token (RFC 7515), encoded: it is the same in all.
    """

    key: PrivateKey
    algorithm: str
    key_id: str
    id_secret: bytes
    token_head: bytes

    def token(self, claims: dict[str, Any]) -> str:
        """Return a signed JWT, as ``jwt.encode`` would; without its checks, which cost half as much as to sign."""
        message = self.token_head + b"." + _segment(msgspec.json.encode(claims))
        return (message + b"." + _segment(_ALGORITHMS[self.algorithm].sign(message, self.key))).decode()

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key (RFC 7517)."""
        public: Any = self.key.public_key()
        algorithm: Any = OKPAlgorithm if self.algorithm == "EdDSA" else ECAlgorithm
        return {
            **algorithm.to_jwk(public, as_dict=True),
            "kid": self.key_id,
            "use": "sig",
            "alg": self.algorithm,
        }


def new_key() -> bytes:
    """Make a private key, as PEM."""
    return _pem(Ed25519PrivateKey.generate())


def signer(pem: bytes) -> Signer:
    """Return the signer of a private key.

    Raises:
        ValueError: It is no PEM of an Ed25519 or P-256 private key.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"it is no private key in PEM: {error}") from None
    if isinstance(key, Ed25519PrivateKey):
        algorithm = "EdDSA"
    elif isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        algorithm = "ES256"
    else:
        raise ValueError("it is neither an Ed25519 nor a P-256 key")  # noqa: TRY004 - the content is wrong
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secret = hashlib.blake2b(_pem(key), digest_size=32, person=b"mf-stream-id").digest()
    key_id = hashlib.sha256(public).hexdigest()[:16]
    head = _segment(msgspec.json.encode({"alg": algorithm, "kid": key_id, "typ": "JWT"}))
    return Signer(key, algorithm, key_id, secret, head)


def configured_signer(token_key: str) -> Signer | None:
    """Return the signer that the setting ``token_key`` names, None if it is empty.

    Raises:
        SettingsError: The file cannot be read, or holds no key of a kind that is supported.
    """
    if not token_key:
        return None
    try:
        return signer(read_key(token_key))
    except (OSError, ValueError) as error:
        # Not the name of the file: it may be a key whose frame was forgotten.
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"token_key: {reason}; give an Ed25519 or P-256 private key as PEM") from None


def read_key(text_or_path: str) -> bytes:
    """Return a key that is given as PEM or as the path of a file."""
    if text_or_path.lstrip().startswith("-----BEGIN"):
        # Environment variables often carry PEM with its line ends escaped.
        return text_or_path.replace("\\n", "\n").encode()
    return Path(text_or_path).expanduser().read_bytes()


def _segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
