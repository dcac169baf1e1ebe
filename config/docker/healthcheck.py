"""Asks the program in this container how it is: exit status 0 if it is well, 1 with a line that says why not.

    python -I healthcheck.py [/healthz|/readyz]

The image has no curl, and needs none.
"""

import http.client
import json
import os
import sys

DEFAULT_PORT = 8080
TIMEOUT_S = 4.0


def ask(path: str, port: int) -> str:
    """Return why the program is not well; empty if it is."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer at port {port}: {error}"
    return "" if answer.status == http.client.OK else f"{answer.status}: {_detail(body)}"


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


if __name__ == "__main__":
    problem = ask(
        sys.argv[1] if len(sys.argv) > 1 else "/readyz",
        int(os.environ.get("MEDIAFLOW_PORT") or DEFAULT_PORT),
    )
    if problem:
        sys.exit(problem)
