"""Trace context as it travels: W3C Trace Context (Recommendation of 2021), taken from anybody, so checked.

What is not as the grammar says is left out and never refused: a trace must not cost a call.
"""

import re
from collections.abc import Mapping

_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<later>-.*)?", re.ASCII
)
_PARENT_LENGTH = 55
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)
_MAX_STATE = 512
_MAX_MEMBERS = 32


def carry(traceparent: str, tracestate: str = "") -> str:
    """Return a trace context as one short text, to be stored with a session; empty if there is none.

    Args:
        traceparent: As in the header. Of a version that is yet to come, what this one knows is taken.
        tracestate: As in the header; left out if it is malformed, or longer than others must keep (512).
    """
    found = _PARENT.fullmatch(traceparent) if len(traceparent) <= 2 * _MAX_STATE else None
    if found is None or (found["later"] and traceparent.startswith("00")):
        return ""
    state = _state(tracestate)
    parent = traceparent[:_PARENT_LENGTH]
    return f"{parent} {state}" if state else parent


def headers(carried: str) -> Mapping[str, str]:
    """Return the headers of a text that :func:`carry` made; none of one that it did not, whoever stored it."""
    parent, _, state = carried.partition(" ")
    if not carry(parent):
        return {}
    return {"traceparent": parent, "tracestate": state} if _state(state) else {"traceparent": parent}


def _state(text: str) -> str:
    if len(text) > _MAX_STATE:
        return ""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if len(members) > _MAX_MEMBERS or not all(_MEMBER.fullmatch(member) for member in members):
        return ""
    return ",".join(members)
