"""Has a program that finds this on its path write its spans to a file of its own: one JSON line each, at once."""

import json
import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class FileExporter(SpanExporter):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def export(self, spans):
        with (self._folder / f"{os.getpid()}.jsonl").open("a") as file:
            for span in spans:
                told = {
                    "name": span.name,
                    "trace": f"{span.context.trace_id:032x}",
                    "span": f"{span.context.span_id:016x}",
                    "parent": f"{span.parent.span_id:016x}" if span.parent else "",
                    "pid": os.getpid(),
                    "attributes": dict(span.attributes),
                }
                file.write(json.dumps(told) + "\n")
        return SpanExportResult.SUCCESS


if folder := os.environ.get("HARNESS_SPANS"):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter(Path(folder))))
    trace.set_tracer_provider(provider)
