"""The one place where logging is set up: structlog for us, the standard library's logging routed beside it.

Log lines go to stderr; stdout belongs to the ready line and to the results of commands. Programs call
:func:`configure`; an embedded app calls :func:`configure_ours`, unless its host program has set structlog up.
"""

import json
import logging
import sys
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from mediaflow.settings import LogFormat, LogLevel


def _with_trace_id(_: Any, __: str, event: EventDict) -> EventDict:
    """Add the trace that the line belongs to, if something has loaded OpenTelemetry and there is one."""
    if (trace := sys.modules.get("opentelemetry.trace")) is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event.setdefault("trace_id", f"{context.trace_id:032x}")
    return event


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    _with_trace_id,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(level: LogLevel = "info", fmt: LogFormat = "auto") -> None:
    """Send all log lines of this process to stderr, those of other libraries included.

    Args:
        level: Least important line that is written.
        fmt: ``console`` for people, ``json`` for machines, ``auto``: console if stderr is a terminal.
    """
    configure_ours(level, fmt)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_ending(fmt)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(_least(level))
    # asyncio's debug lines tell of selectors, not of calls.
    logging.getLogger("asyncio").setLevel(max(_least(level), logging.INFO))


def configure_ours(level: LogLevel, fmt: LogFormat) -> None:
    """Send the lines that are logged through structlog to stderr, and leave the standard library's logging alone."""
    structlog.configure(
        processors=[*_SHARED, *_ending(fmt)],
        wrapper_class=structlog.make_filtering_bound_logger(_least(level)),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _least(level: LogLevel) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _ending(fmt: LogFormat) -> list[Processor]:
    if fmt == "console" or (fmt == "auto" and sys.stderr.isatty()):
        # Plain: the tracebacks of rich, which is there for the commands, would show every local variable.
        return [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_encode)]


def _encode(line: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=repr).decode()
    except UnicodeEncodeError:
        # Names of files can hold half characters; a log line must not fail for what it tells.
        return json.dumps(line, default=repr)
