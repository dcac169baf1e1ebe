"""``/docs``: one page that reads ``/openapi.json`` and lets people try requests. It loads nothing else."""

from importlib import resources

from aiohttp import web

from mediaflow.web.surface import Route, Surface

_CSP = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def add_routes(surface: Surface) -> None:
    """Add ``/docs``."""
    page = resources.files("mediaflow.web").joinpath("docs.html").read_bytes()

    async def docs(_: web.Request) -> web.Response:
        return web.Response(
            body=page,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff"},
        )

    surface.add(
        Route(
            method="GET", path="/docs", handler=docs, summary="A page to try it.", answers={200: "text/html"}
        )
    )
