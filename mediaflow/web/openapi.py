"""The OpenAPI 3.1 document of a surface, from its table of routes and the message types."""

from importlib.metadata import PackageNotFoundError, version
from inspect import cleandoc
from typing import Any

import msgspec
from aiohttp import web

from mediaflow.api.messages import Problem
from mediaflow.web import auth, problems
from mediaflow.web.surface import Parameter, Route, Surface

_MEANINGS = {
    200: "It is as the body says.",
    201: "A session was made.",
    204: "Done.",
    400: "The request is malformed; the problem says where.",
    401: "The token is missing or wrong.",
    403: "It is not allowed; the problem says why.",
    404: "There is no such call.",
    408: "The body did not arrive in time.",
    429: "Too many requests; Retry-After says when to ask again.",
    413: "The body is too large.",
    422: "The Idempotency-Key was used with another body.",
    503: "Not now; Retry-After says when to ask again.",
}


def program_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("mediaflow")
    except PackageNotFoundError:
        return "0"


def document(surface: Surface) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all routes of a surface."""
    types: list[type] = [Problem]
    for route in surface.routes:
        types += [answer for answer in route.answers.values() if isinstance(answer, type)]
        types += [*route.problems.values(), *([route.body] if route.body else [])]
    unique = list(dict.fromkeys(types))
    references, components = msgspec.json.schema_components(
        unique, ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        if about := component.get("description"):
            component["description"] = cleandoc(about)  # Python 3.13 does so by itself
    schemas = dict(zip(unique, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in surface.routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"mediaflow {surface.name}",
            "version": program_version(),
            "description": f"{surface.about} Errors are problem details (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def add_routes(surface: Surface) -> None:
    """Add ``/openapi.json``; it describes the routes that the surface has when it is asked."""

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(document(surface)), content_type="application/json")

    surface.add(
        Route(
            method="GET",
            path="/openapi.json",
            handler=openapi,
            summary="This document.",
            answers={200: "application/json"},
            refusals=(401,),
        )
    )


def _operation(route: Route, schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in route.answers.items():
        responses[str(status)] = {**_told(route, status), **_content(answer, schemas)}
    for status in route.refusals:
        responses[str(status)] = {
            **_told(route, status),
            "content": {problems.CONTENT_TYPE: {"schema": schemas[route.problems.get(status, Problem)]}},
        }
    operation: dict[str, Any] = {"summary": route.summary, "responses": responses}
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.takes_object:
        operation["requestBody"] = {
            "required": False,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    if route.body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.body], "example": route.example}},
        }
    if route.open or auth.is_open(route.path):
        operation["security"] = []
    return operation


def _told(route: Route, status: int) -> dict[str, Any]:
    told: dict[str, Any] = {"description": route.meanings.get(status) or _MEANINGS[status]}
    if names := route.headers.get(status):
        told["headers"] = {name: {"schema": {"type": "string"}, "required": True} for name in names}
    return told


def _content(answer: type | str | None, schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if answer is None:
        return {}
    if isinstance(answer, str):
        return {"content": {answer: {}}}
    return {"content": {"application/json": {"schema": schemas[answer]}}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.about,
        "required": parameter.where == "path",
        "schema": dict(parameter.schema),
    }
