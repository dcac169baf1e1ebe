"""Which coroutine a worker runs for each session: the one that ``--app module:attr`` names."""

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from mediaflow.runtime.session import Handler, Session


class LoadedApp(NamedTuple):
    """What ``--app`` named: the coroutine function, and the settings that its app was made with."""

    handler: Handler
    settings_flags: Mapping[str, Any]


async def hold(session: Session) -> None:
    """Keep a session until its call is ended: what a worker does without ``--app``."""
    del session
    await asyncio.Event().wait()


def load_app(reference: str) -> LoadedApp:
    """Find ``module:attr``: a coroutine function of a session, or a MediaApp that has one.

    Raises:
        ValueError: There is no such thing, or it is neither; the message is one line.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"app {reference!r}: give module:attr, for example recorder:app")
    found: Any = _import(reference, module_name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"app {reference!r}: the module {module_name!r} has no {attribute!r}") from None
    handler = getattr(found, "handler", found)
    if handler is None:
        raise ValueError(
            f"app {reference!r}: it has no coroutine yet: decorate one with @{attribute}.session"
        )
    if not _is_coroutine_function(handler):
        raise ValueError(
            f"app {reference!r} is {type(found).__name__}: give a MediaApp or a coroutine function"
        )
    return LoadedApp(handler, getattr(found, "settings_flags", {}))


class AppParameter(click.ParamType[LoadedApp]):
    """``module:attr`` on a command line, loaded as soon as it is read."""

    name = "module:attr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LoadedApp:
        """Load the app, or fail as a wrong usage does."""
        if isinstance(value, LoadedApp):
            return value
        try:
            return load_app(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _import(reference: str, module_name: str) -> Any:
    # A console script, unlike ``python -m``, does not look into the current directory.
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - compared as the text it is
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything while it is imported
        raise ValueError(
            f"app {reference!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from None


def _is_coroutine_function(handler: Any) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object whose call is a coroutine
    )
