"""Serve the player's page, which holds a place of the stream concurrency service while it plays.

python -m mediaflow.concurrency --stream-limit 2                   # needs Redis; or: mediaflow up
python examples/player/serve.py
open 'http://127.0.0.1:8091/?user=ann&service=http://127.0.0.1:8090'    # in three tabs, and press Play in each

More of the page's parameters: ``device`` (how this browser is called elsewhere), ``channel`` (for rules),
``autoplay``, and ``#token=…`` for a bearer token. Without ``service`` it asks the server that it came from.
"""

import argparse
from pathlib import Path

from aiohttp import web

PAGE = Path(__file__).parent
FILES = {
    "index.html": "text/html",
    "player.css": "text/css",
    "player.mjs": "text/javascript",
    "streams.mjs": "text/javascript",
    "clip.mjs": "text/javascript",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' http: https:"
)


async def page(request: web.Request) -> web.Response:
    """Answer one of the few files there are."""
    name = request.match_info.get("name") or "index.html"
    if name not in FILES:
        raise web.HTTPNotFound
    return web.Response(
        text=(PAGE / name).read_text(encoding="utf-8"),
        content_type=FILES[name],
        charset="utf-8",
        headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"},
    )


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/{name}", page)
    return app


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the player's page.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8091)
    given = parser.parse_args()
    web.run_app(make_app(), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
