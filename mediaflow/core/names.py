"""Names of things: calls, sessions, instances; what is legal, and how ids are composed.

Ids are composed here and nowhere else, because their order carries meaning: session ids
sort by time of creation, ranks sort by time of the instance's start.
"""

import re

_CALL_ID = re.compile(r"[A-Za-z0-9._~:@+-]{1,128}", re.ASCII)
_INSTANCE_ID = re.compile(r"[A-Za-z0-9._~:@+-]{1,64}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_SESSION_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{3}-[0-9a-f]{10}", re.ASCII)
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


class IllegalName(ValueError):
    """A name breaks its grammar; the message says which, with what value, and what is allowed."""


def is_call_id(text: str) -> bool:
    """Tell whether ``text`` is a legal call id, see :func:`check_call_id`."""
    return _CALL_ID.fullmatch(text) is not None and text not in (".", "..")


def check_call_id(call_id: str) -> str:
    """Return ``call_id`` if it is a legal one.

    Raises:
        IllegalName: It is not 1 to 128 characters of the allowed set, or is ``.`` or ``..``.
    """
    if not is_call_id(call_id):
        raise IllegalName(
            f"callId {call_id[:140]!r} is not allowed: use 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ + - "
            "(and not '.' or '..')"
        )
    return call_id


def check_instance_id(instance_id: str) -> str:
    """Return ``instance_id`` if it is 1 to 64 characters of the set allowed for call ids."""
    if not _INSTANCE_ID.fullmatch(instance_id):
        raise IllegalName(
            f"instance id {instance_id[:80]!r} is not allowed: use 1 to 64 characters of A-Z a-z 0-9 . _ ~ : @ + -"
        )
    return instance_id


def check_namespace(namespace: str) -> str:
    """Return ``namespace`` if it is 1 to 64 characters of ``A-Z a-z 0-9 . _ -``."""
    if not _NAMESPACE.fullmatch(namespace):
        raise IllegalName(
            f"namespace {namespace[:80]!r} is not allowed: use 1 to 64 characters of A-Z a-z 0-9 . _ -"
        )
    return namespace


def check_idempotency_key(key: str) -> str:
    """Return ``key`` if it is 1 to 255 printable ASCII characters without spaces."""
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise IllegalName(
            f"Idempotency-Key {key[:80]!r} is not allowed: use 1 to 255 printable ASCII characters without spaces"
        )
    return key


def is_session_id(text: str) -> bool:
    """Tell whether ``text`` has the form that :func:`session_id` gives."""
    return _SESSION_ID.fullmatch(text) is not None


def session_id(now_ms: int, partition: int, random_bits: int) -> str:
    """Compose a session id: 12 hex digits of time, 3 of partition, 10 of randomness.

    Args:
        now_ms: Wall-clock milliseconds since the epoch.
        partition: Number of the call's partition, below 4096.
        random_bits: At least 40 random bits; the lowest 40 are used.
    """
    return f"{now_ms & 0xFFFFFFFFFFFF:012x}-{partition:03x}-{random_bits & 0xFFFFFFFFFF:010x}"


def rank(started_ms: int, instance_id: str) -> str:
    """Compose an instance's rank: the string by which siblings order their owners, compared bytewise.

    Zero-padding makes the byte order the order of start times; the id breaks ties.
    """
    return f"{started_ms:015d}:{instance_id}"
