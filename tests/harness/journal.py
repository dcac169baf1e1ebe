"""From the workers' journal, and what the test did and was told, to a history that checkers can judge.

Whoever only watches sees a write between the moment it was asked for and the moment it was acknowledged. It is
told of at the former: a writer that stood still in between may hear the acknowledgement after its successor's
first write, but none can have been asked for after the successor was appointed and still been accepted.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from harness.api import Answer, Api
from harness.handlers import Entry, read_journal
from mediaflow.testing.history import (
    Answered,
    AnyHappening,
    EndAnswered,
    EndAsked,
    Fault,
    Final,
    FinalSession,
    Healed,
    Started,
    Stopped,
    Submitted,
    Wrote,
)

NO_ANSWER = Answer(0, None, {})


class Run(NamedTuple):
    """A handler that has begun and, as far as its journal and the test know, still runs."""

    call_id: str
    session_id: str
    instance_id: str
    incarnation: int
    pid: int


class Story:
    """What one test did to a system and was told by it; :meth:`history` adds what the workers saw."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began_s = time.monotonic()
        self._told: list[AnyHappening] = []
        self._killed_at_s: dict[int, float] = {}
        self._requests = itertools.count(1)

    def tell(self, happening: type[Any], /, **what: Any) -> None:
        """Write down that this happened now."""
        self._told.append(happening(at_s=self.now_s(), **what))

    def fault(self, kind: Any, target: str = "", detail: str = "") -> None:
        self.tell(Fault, kind=kind, target=target, detail=detail)

    def killed(self, pid: int) -> None:
        """Write down that a process is no more, so that its handlers are not believed to run on."""
        self._killed_at_s[pid] = self.now_s()

    def healed(self) -> None:
        self.tell(Healed)

    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    # -- asking -------------------------------------------------------------------------------

    async def submit(self, api: Api, call_id: str, metadata: Any = None, key: str = "") -> Answer:
        """Ask for a call; an answer of status 0 is none. The key names the call unless another is given."""
        request, key = next(self._requests), key or f"key-of-{call_id}"
        self.tell(Submitted, request=request, call_id=call_id, key=key)
        try:
            answer = await api.submit(call_id, metadata, key)
        except (aiohttp.ClientError, TimeoutError):
            answer = NO_ANSWER
        made = answer.body if answer.status in (200, 201) else {}
        self.tell(
            Answered,
            request=request,
            call_id=call_id,
            status=answer.status,
            session_id=made.get("sessionId", ""),
            state=made.get("state", ""),
            owner=made.get("owner") or "",
            fence=made.get("fence", 0),
            created=made.get("created", False),
        )
        return answer

    async def end(self, api: Api, call_id: str) -> int:
        """Ask for the end of a call; status 0 is no answer."""
        request = next(self._requests)
        self.tell(EndAsked, request=request, call_id=call_id)
        try:
            status = await api.end(call_id)
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        self.tell(EndAnswered, request=request, call_id=call_id, status=status)
        return status

    # -- what is known ------------------------------------------------------------------------

    def owed(self) -> set[str]:
        """Return the calls that were acknowledged, that nobody asked to end, and that Redis cannot have lost for good.

        What it forgets is put back by who runs it: a call that nobody had begun when Redis lost data may be gone.
        """
        lost_s = max(
            (
                one.at_s
                for one in self._told
                if isinstance(one, Fault) and one.kind in ("emptied", "rolled back")
            ),
            default=0.0,
        )
        begun = {entry.call_id for entry in self.starts()}
        ended = {one.call_id for one in self._told if isinstance(one, EndAsked)}
        return (self.acknowledged(lost_s) | begun & self.acknowledged()) - ended

    def acknowledged(self, since_s: float = -1.0) -> set[str]:
        """Return the calls that were acknowledged after a moment of the story."""
        return {
            one.call_id
            for one in self._told
            if isinstance(one, Answered) and one.status in (200, 201) and one.at_s > since_s
        }

    def entries(self) -> list[Entry]:
        return read_journal(self._folder)

    def starts(self, since_s: float = 0.0) -> list[Entry]:
        """Return the starts of handlers since a moment of the story."""
        began_s = self._began_s + since_s
        return [entry for entry in self.entries() if entry.what == "start" and entry.at_s >= began_s]

    def running(self) -> list[Run]:
        """Return the handlers that have begun, have not ended, and whose process was not killed."""
        going = _without_end(self.entries())
        return [run for run in going if run.pid not in self._killed_at_s]

    def final(self, calls: Iterable[Any], slots: dict[str, int]) -> None:
        """Write down how it is now: the bodies of ``GET /calls``, and the slots of each live instance."""
        running = self.running()
        of_session: defaultdict[str, list[str]] = defaultdict(list)
        of_instance: dict[str, int] = dict.fromkeys(slots, 0)
        for run in running:
            of_session[run.session_id].append(run.instance_id)
            of_instance[run.instance_id] = of_instance.get(run.instance_id, 0) + 1
        self.tell(
            Final,
            calls={
                call["callId"]: tuple(
                    FinalSession(
                        session_id=one["sessionId"],
                        state=one["state"],
                        instance_id=one["owner"] or "",
                        fence=one["fence"],
                        running_on=tuple(of_session[one["sessionId"]]),
                    )
                    for one in call["sessions"]
                )
                for call in calls
            },
            slots=slots,
            running=of_instance,
        )

    def history(self) -> list[AnyHappening]:
        """Return all that happened, in the order in which it did."""
        return sorted([*self._told, *self._seen_by_workers()], key=lambda one: one.at_s)

    def _seen_by_workers(self) -> Iterable[AnyHappening]:
        entries = self.entries()
        for entry in entries:
            yield self._happening(entry)
        for run in _without_end(entries):
            if run.pid in self._killed_at_s:
                yield Stopped(
                    at_s=self._killed_at_s[run.pid],
                    call_id=run.call_id,
                    session_id=run.session_id,
                    instance_id=run.instance_id,
                    incarnation=run.incarnation,
                    reason="killed",
                )

    def _happening(self, entry: Entry) -> AnyHappening:
        who: dict[str, Any] = {
            "call_id": entry.call_id,
            "session_id": entry.session_id,
            "instance_id": entry.instance_id,
            "incarnation": entry.incarnation,
        }
        at_s = (entry.asked_s if entry.what == "write" else entry.at_s) - self._began_s
        match entry.what:
            case "start":
                return Started(
                    at_s=at_s, **who, fence=entry.fence, attempt=entry.attempt, resumed=entry.resumed
                )
            case "write":
                return Wrote(at_s=at_s, **who, fence=entry.fence, number=entry.count)
            case _:
                return Stopped(at_s=at_s, **who, reason=entry.reason)


def _without_end(entries: Iterable[Entry]) -> list[Run]:
    going: dict[tuple[int, str], Run] = {}
    for entry in entries:
        if entry.what == "start":
            going[entry.pid, entry.session_id] = Run(
                entry.call_id, entry.session_id, entry.instance_id, entry.incarnation, entry.pid
            )
        elif entry.what == "end":
            going.pop((entry.pid, entry.session_id), None)
    return list(going.values())
