"""A call's metadata: the JSON object of its request, and the digest that tells requests apart."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec


class Metadata(NamedTuple):
    """The metadata of a call.

    Attributes:
        encoded: The JSON object, compact, in the order it was given.
        digest: The same for objects that differ in spelling only (white space, order of keys).
    """

    encoded: bytes
    digest: str


def encode_metadata(found: Mapping[str, Any]) -> Metadata:
    """Encode a JSON object.

    Raises:
        TypeError: It is not an object, or a key or a value of it does not encode as JSON.
    """
    if not isinstance(cast("object", found), Mapping) or not all(
        isinstance(cast("object", key), str) for key in found
    ):
        raise TypeError(
            f"metadata have to be a JSON object, a mapping with text as its keys, not {found!r:.80}"
        )
    plain = dict(found)
    canonical = msgspec.json.encode(plain, order="sorted")
    return Metadata(msgspec.json.encode(plain), hashlib.blake2b(canonical, digest_size=16).hexdigest())


NO_METADATA = encode_metadata({})
"""Of a call that has none."""
