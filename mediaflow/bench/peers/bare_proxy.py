"""The limit of a balancer: an aiohttp handler that passes the request on to ``URL``, and the answer back."""

import sys
from collections.abc import AsyncGenerator

from aiohttp import ClientSession, TCPConnector, web

from mediaflow.bench.peers.serving import serve
from mediaflow.bench.saying import run

_SESSION = web.AppKey("session", ClientSession)


async def _client(application: web.Application) -> AsyncGenerator[None]:
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        application[_SESSION] = session
        yield


async def _pass_on(request: web.Request) -> web.Response:
    session, body = request.app[_SESSION], await request.read()
    async with session.post(f"{sys.argv[1]}{request.raw_path}", data=body) as response:
        return web.Response(
            status=response.status, body=await response.read(), content_type=response.content_type
        )


if __name__ == "__main__":
    application = web.Application()
    application.cleanup_ctx.append(_client)
    application.router.add_post("/calls/{call_id}", _pass_on)
    run(serve(application))
