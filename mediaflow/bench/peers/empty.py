"""The limit of HTTP here: aiohttp with a handler that reads what came and answers a constant."""

from aiohttp import web

from mediaflow.bench.peers.serving import serve
from mediaflow.bench.saying import run


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b'{"streamId":"s"}', content_type="application/json")


if __name__ == "__main__":
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", _answer)
    run(serve(application))
