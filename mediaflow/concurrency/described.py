"""The service's OpenAPI document as it is kept in ``config/concurrency.openapi.json``.

``python -m mediaflow.concurrency.described > config/concurrency.openapi.json`` writes it anew.
"""

import sys

import msgspec

from mediaflow.concurrency.app import surface
from mediaflow.limiter import StreamLimiter
from mediaflow.settings import Settings
from mediaflow.web import openapi

UNVERSIONED = "0"
"""Stands for the version in the kept document, so that a release alone does not change it."""


def kept_document() -> bytes:
    """Return the document, indented, without the version of the package."""
    settings = Settings()
    found = openapi.document(surface(StreamLimiter(settings), settings))
    found["info"]["version"] = UNVERSIONED
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(kept_document())
