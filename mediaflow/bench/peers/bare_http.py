"""The limit of an HTTP service: an aiohttp handler that reads the body and answers what a worker answers."""

from aiohttp import web

from mediaflow.bench.peers.serving import serve
from mediaflow.bench.saying import run

_ANSWER = (
    b'{"callId":"call-0","sessionId":"s0000000000000000000000","state":"active","owner":"worker-0",'
    b'"fence":1760000000000000,"created":true}'
)


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=201, body=_ANSWER, content_type="application/json")


if __name__ == "__main__":
    application = web.Application()
    application.router.add_post("/calls/{call_id}", _answer)
    run(serve(application))
