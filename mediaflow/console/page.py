"""The page as files: read once, served under a policy that lets it load nothing from elsewhere."""

import hashlib
from importlib import resources
from typing import NamedTuple

from aiohttp import web

from mediaflow.web.problems import Refusal
from mediaflow.web.surface import Parameter, Route, Surface

PAGE = "index.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for each time, and mostly answered with 304: after an upgrade no old file meets a new one.
    "Cache-Control": "no-cache",
}


class _File(NamedTuple):
    body: bytes
    content_type: str
    etag: str


def add_routes(surface: Surface) -> None:
    """Add ``/console`` and its files."""
    files = _read()

    def answer(request: web.Request, file: _File) -> web.Response:
        if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
            unchanged = web.Response(status=304, headers=_HEADERS)
            unchanged.etag = file.etag
            return unchanged
        response = web.Response(
            body=file.body, content_type=file.content_type, charset="utf-8", headers=_HEADERS
        )
        response.etag = file.etag
        return response

    async def page(request: web.Request) -> web.Response:
        return answer(request, files[PAGE])

    async def part(request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name == PAGE or name not in files:
            raise Refusal(404, f"there is no file {name[:80]!r} of the console: the page is at /console")
        return answer(request, files[name])

    surface.add(
        Route(
            method="GET",
            path="/console",
            handler=page,
            summary="A live page of all that runs.",
            answers={200: "text/html"},
        ),
        Route(
            method="GET",
            path="/console/{file}",
            handler=part,
            summary="A file of that page.",
            answers={200: "*/*"},
            refusals=(404,),
            parameters=(Parameter("file", "path", "Its name.", {"enum": sorted(files.keys() - {PAGE})}),),
        ),
    )


def _read() -> dict[str, _File]:
    """Read all files of the page; what is no such file is served to nobody."""
    found: dict[str, _File] = {}
    for entry in resources.files("mediaflow.console").joinpath("static").iterdir():
        content_type = _TYPES.get(entry.name[entry.name.rfind(".") :])
        if content_type and entry.is_file():
            body = entry.read_bytes()
            found[entry.name] = _File(body, content_type, hashlib.blake2b(body, digest_size=12).hexdigest())
    return found
