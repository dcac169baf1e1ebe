"""What the programs show to Prometheus: all four, in this process, over one store."""

import re
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import msgspec

from mediaflow import concurrency, loadbalancer, watchdog
from mediaflow.settings import Settings
from mediaflow.telemetry import lag
from mediaflow.web.hosting import Build, hosted
from mediaflow.web.surface import METRICS
from mediaflow.worker.app import hosting
from mediaflow.worker.handlers import hold

BUILDS: dict[str, Build] = {
    "worker": hosting(hold),
    "loadbalancer": loadbalancer.build,
    "watchdog": watchdog.build,
    "concurrency": concurrency.build,
}

_HELP = re.compile(r"^# HELP (mediaflow_\w+) (.+)$", re.MULTILINE)
_TYPE = re.compile(r"^# TYPE (mediaflow_\w+) (\w+)$", re.MULTILINE)


class Family(NamedTuple):
    """A metric as it is shown: its type, and its help text."""

    kind: str
    about: str

    def series(self, name: str) -> set[str]:
        """Return the names of its samples."""
        return (
            {name} if self.kind != "histogram" else {f"{name}_{part}" for part in ("bucket", "sum", "count")}
        )


def families(text: str) -> dict[str, Family]:
    """Return the metrics of an exposition that are ours, by name."""
    kinds = dict(_TYPE.findall(text))
    return {
        name: Family(kinds[name], about)
        for name, about in _HELP.findall(text)
        if not name.endswith("_created")  # the library's own companion of a histogram
    }


def table(shown: Mapping[str, str]) -> str:
    """Return all metrics as the table of ``config/OPERATING.md``, from what each program shows."""
    rows: dict[str, tuple[Family, list[str]]] = {}
    for program, text in shown.items():
        for name, family in families(text).items():
            rows.setdefault(name, (family, []))[1].append(program)
    lines = ["| metric | kind | of | meaning |", "| --- | --- | --- | --- |"]
    for name, (family, programs) in sorted(rows.items()):
        shown_by = "all" if len(programs) == len(shown) else ", ".join(programs)
        lines.append(f"| `{name}` | {family.kind} | {shown_by} | {family.about} |")
    return "\n".join(lines)


async def expositions() -> dict[str, str]:
    """Return what each program shows, by its name."""
    settings = Settings(redis_url=f"memory://{uuid.uuid4().hex}", port=0)
    shown: dict[str, str] = {}
    async with aiohttp.ClientSession() as client:
        for name, build in BUILDS.items():
            own = msgspec.structs.replace(settings, instance_id="one" if name == "worker" else "")
            async with hosted(name, own, build) as (bound, program, _):
                # As serve() does around the program, which this process is not.
                with lag.watching(program.app[METRICS]):
                    async with client.get(f"{bound.url}/metrics") as answer:
                        shown[name] = await answer.text()
    return shown
