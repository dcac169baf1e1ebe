"""Runs a shell block of a document as a person would type it, on a machine of its own.

That machine is a network and process namespace, so that the ports of the documents are free and nothing is left
behind; what belongs to another machine is not run. A redis-server listens on its usual port. A line that ends with
``&`` is waited for until it says that it serves. The comment behind a line with curl begins with the status that has
to be answered. A program that does not end by itself is waited for likewise, and interrupted as with Ctrl-C.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from harness.pages import ROOT

ELSEWHERE = frozenset(
    {"apt-get", "docker", "helm", "install", "journalctl", "kubectl", "podman", "redis-server", "sudo"}
    | {"systemctl", "systemd-analyze", "terraform", "useradd", "zip"}
)
"""Commands of another machine, or that change this one: a block with one of them is checked as text only."""

LEFT_OUT = frozenset({"pip", "pytest"})
"""Steps that are left out of a block: what they would install is what runs this test, and so is pytest."""

TOOLS = ("unshare", "ip", "curl", "jq", "redis-server", "redis-cli")
WITHIN_S = 100

_SERVES = re.compile(
    r"^(\w+=\S+ )*(mediaflow|python) (up|worker|loadbalancer|watchdog|concurrency|bot\.py)\b"
)
_PRELUDE = """\
set -m -e -o pipefail
ip link set lo up
trap 'echo "failed: $CURRENT" >&2; tail -n 40 "$LOGS"/*.log >&2' ERR
curl() { command curl -sS --max-time 30 "$@" -w '%{stderr}%{http_code}\\n' 2>>"$LOGS/statuses"; }
serves() {  # number, process id
  for ((i = 0; i < 1200; i++)); do
    grep -qE 'Everything is ready|^ready |Running on' "$LOGS/$1.log" && return
    kill -0 "$2" || return
    sleep 0.05
  done
  return 1
}
"""
_REDIS = """\
redis-server --port 6379 --save '' --dir "$LOGS" >/dev/null &
until redis-cli ping >/dev/null 2>&1; do sleep 0.02; done
"""


class Line(NamedTuple):
    """One command of a block, without its comment."""

    command: str
    comment: str

    @property
    def status(self) -> int:
        """The status that a request is to be answered with, as its comment begins; 0 if it says none."""
        found = re.match(r"\d{3}", self.comment)
        return int(found[0]) if found else 0

    @property
    def asks(self) -> bool:
        return re.search(r"\bcurl\b", self.command) is not None

    @property
    def in_background(self) -> bool:
        return self.command.endswith("&") and not self.command.endswith("&&")

    @property
    def stays(self) -> bool:
        return _SERVES.match(self.command) is not None and "--help" not in self.command


class Outcome(NamedTuple):
    """What came of a block."""

    status: int
    statuses: list[int]
    output: str


def lines(text: str) -> list[Line]:
    """Take a block apart, without what is left out; none are to be run if the block is for another machine."""
    found: list[Line] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        command, _, comment = re.split(r"(\s+# |^# |$)", line, maxsplit=1)
        steps = [step.strip() for step in command.split(" && ") if step.strip()]
        if any(_program(step) in ELSEWHERE for step in steps):
            return []
        if kept := [step for step in steps if _program(step) not in LEFT_OUT]:
            found.append(Line(" && ".join(kept), comment.strip()))
    return found


def _program(step: str) -> str:
    words = [word for word in step.split() if not re.match(r"\w+=", word)]
    return Path(words[0]).name if words else ""


def why_not_here() -> str:
    """Say why no block can be run on this machine; empty if it can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if subprocess.run([*_apart(), "true"], capture_output=True, check=False).returncode:
        return "namespaces cannot be made here"
    return ""


def _apart() -> list[str]:
    mapped = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *mapped, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def run(block: list[Line], files: Mapping[str, str], scratch: Path) -> Outcome:
    """Run the lines in a folder that looks like the project's root, with ``files`` in it."""
    folder, logs = scratch / "project", scratch / "logs"
    folder.mkdir()
    logs.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in {".git", "build"}:
            (folder / entry.name).symlink_to(entry)
    for name, text in files.items():
        (folder / name).write_text(text)
    script = scratch / "block.sh"
    own = any(line.command.startswith("redis-server ") for line in block)
    script.write_text(
        _PRELUDE
        + ("" if own else _REDIS)
        + "".join(_scripted(number, line) for number, line in enumerate(block))
    )
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MEDIAFLOW_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*_apart(), "bash", str(script)],
        cwd=folder,
        env={**inherited, "PATH": programs, "LOGS": str(logs), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    answered = logs / "statuses"
    statuses = answered.read_text().split() if answered.exists() else []
    return Outcome(done.returncode, [int(word) for word in statuses if word.isdigit()], done.stdout)


def _scripted(number: int, line: Line) -> str:
    current = f"CURRENT={shlex.quote(line.command)}\n"
    log = f'"$LOGS/{number}.log"'
    if line.in_background:
        return f"{current}{{ {line.command.removesuffix('&')}; }} >{log} 2>&1 &\nserves {number} $!\n"
    if line.stays:
        return (
            f"{current}{{ {line.command}; }} >{log} 2>&1 &\nserves {number} $!\nkill -INT -- -$!\nwait $!\n"
        )
    return f"{current}{line.command}\n"
