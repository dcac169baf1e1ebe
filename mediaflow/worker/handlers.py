"""Which coroutine a worker runs for each session: the one that ``--app module:attr`` names."""

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click

from mediaflow.runtime.hooks import NO_HOOKS, Hooks
from mediaflow.runtime.session import Handler, Session


class LoadedApp(NamedTuple):
    """What ``--app`` named: the coroutine function, and the settings and hooks that its app was made with.

    ``reference`` is the name itself; empty if the app was not named, but handed over.
    """

    handler: Handler
    settings_flags: Mapping[str, Any]
    hooks: Hooks = NO_HOOKS
    reference: str = ""


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
    hooks = getattr(found, "hooks", NO_HOOKS)
    return LoadedApp(handler, getattr(found, "settings_flags", {}), hooks, reference)


def reference_of(handler: Handler, hooks: Hooks = NO_HOOKS) -> str:
    """Return the ``module:attr`` by which another process finds a coroutine function and its hooks.

    It names the MediaApp, where one stands at the top level of the handler's module, else the handler.

    Raises:
        ValueError: There is no such name; the message is one line.
    """
    module_name = getattr(handler, "__module__", "")
    module = sys.modules.get(module_name)
    attribute = _name_in(module, handler, hooks)
    if module is not None and module_name == "__main__":
        # ``python -m package.module`` has its name in the spec; a script is found by its file.
        spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
        module_name = spec.name if spec else Path(file).stem if file else ""
    if not attribute or not module_name:
        shown = getattr(handler, "__qualname__", repr(handler))
        raise ValueError(
            f"a new process cannot import {shown!r} of {module_name or 'this program'}, or its app: "
            "define it at the top level of a module, or set processes = 1"
        )
    return f"{module_name}:{attribute}"


def _name_in(module: ModuleType | None, handler: Handler, hooks: Hooks) -> str:
    """Return under which name a module has the app of a handler, or else a handler that needs no app; or empty."""
    for name, value in vars(module).items() if module else ():
        if getattr(value, "handler", None) is handler and getattr(value, "hooks", NO_HOOKS) == hooks:
            return name
    attribute = getattr(handler, "__qualname__", "")
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return attribute if found is handler and hooks == NO_HOOKS else ""


def importing() -> bool:
    """Tell whether an app's module is being imported just now."""
    return bool(_importing)


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
    _importing.append(module_name)
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything while it is imported
        raise ValueError(
            f"app {reference!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from None
    finally:
        _importing.remove(module_name)


_importing: list[str] = []


def _is_coroutine_function(handler: Any) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object whose call is a coroutine
    )
