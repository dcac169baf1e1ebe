"""Liveness, readiness and metrics, alike in every program."""

import msgspec
from aiohttp import web

from mediaflow.telemetry.metrics import CONTENT_TYPE
from mediaflow.web.problems import unavailable
from mediaflow.web.surface import Route, Surface, json_response


class Health(msgspec.Struct, frozen=True):
    """What ``/healthz`` and ``/readyz`` answer when all is well."""

    status: str


def add_routes(surface: Surface) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_: web.Request) -> web.Response:
        return json_response(Health("alive"))

    async def readyz(_: web.Request) -> web.Response:
        if problem := surface.problem():
            raise unavailable(problem)
        return json_response(Health("ready"))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=surface.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    surface.add(
        Route(
            method="GET",
            path="/healthz",
            handler=healthz,
            summary="Is the process alive?",
            answers={200: Health},
        ),
        Route(
            method="GET",
            path="/readyz",
            handler=readyz,
            summary="Can it do its work now? If not, the problem says why.",
            answers={200: Health},
            refusals=(503,),
        ),
        Route(
            method="GET",
            path="/metrics",
            handler=metrics,
            summary="Metrics for Prometheus.",
            answers={200: "text/plain"},
            refusals=(401,),
        ),
    )
