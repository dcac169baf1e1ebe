"""The main job on real input: recordings that are exact, whatever happens to the workers.

With real telephone speech where Debian's asterisk-core-sounds-en-wav is installed, else on generated audio.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.processes import ROOT, Fleet, Program
from harness.speech import RATE, generate, samples_of, telephone_speech
from harness.waiting import eventually

CALLS = 20
LONG_S, SHORT_S = 30.0, 10.0
STARTS_WITHIN_S = 20.0

pytestmark = pytest.mark.redis


@pytest.fixture(params=["telephone speech", *([] if telephone_speech() else ["generated audio"])])
def speech(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Twenty files of ten seconds and more, the longest first."""
    if request.param == "telephone speech":
        found = telephone_speech()
        if not found:
            if os.environ.get("CI") == "true":
                pytest.fail("needs Debian's asterisk-core-sounds-en-wav, and in CI it has to be there")
            pytest.skip("needs Debian's asterisk-core-sounds-en-wav; runs on generated audio instead")
        return [path for path in found if path.stat().st_size < 40 * 2 * RATE][:CALLS]
    lengths = [LONG_S - i * (LONG_S - SHORT_S) / CALLS + 0.0123 for i in range(CALLS)]
    return [generate(tmp_path / f"{i}.wav", length, i) for i, length in enumerate(lengths)]


class Recorders:
    """Workers that run examples/recorder.py behind one balancer, with a watchdog."""

    def __init__(self, fleet: Fleet, balancer: str, out: Path, client: aiohttp.ClientSession) -> None:
        self._fleet = fleet
        self._balancer = balancer
        self._client = client
        self.out = out
        self.workers: dict[str, Program] = {}

    async def add(self, *instance_ids: str) -> None:
        arguments = ("--app", "recorder:app")
        started = await self._fleet.workers(*instance_ids, slots=CALLS, arguments=arguments)
        self.workers.update(zip(instance_ids, started, strict=True))

    async def submit(self, call_id: str, source: Path, speed: float) -> None:
        metadata = {"source": str(source), "speed": speed}
        async with self._client.post(f"{self._balancer}/calls/{call_id}", json=metadata) as answer:
            assert answer.status == 201, await answer.text()

    async def session(self, call_id: str) -> dict[str, Any]:
        async with self._client.get(f"{self._balancer}/calls/{call_id}") as answer:
            assert answer.status == 200, await answer.text()
            (session,) = (await answer.json())["sessions"]
            return session

    async def owner_that_wrote(self, call_id: str, not_by: str = "") -> str:
        """Wait for an owner that has written two segments: it is in the midst of it."""

        async def look() -> str:
            session = await self.session(call_id)
            folder = self.out / f"{call_id}.wav.parts" / session["sessionId"]
            assert session["state"] == "active", session
            assert session["owner"] != not_by
            assert len(list(folder.glob(f"{session['fence']}-*.wav"))) >= 2
            return session["owner"]

        return await eventually(look, STARTS_WITHIN_S, about=f"an owner of {call_id} records")

    async def completed(self, call_id: str, within_s: float) -> None:
        async def look() -> str:
            return (await self.session(call_id))["state"]

        await eventually(look, within_s, until=lambda state: state == "completed", every_s=0.1)

    def check(self, call_id: str, source: Path) -> None:
        assert samples_of(self.out / f"{call_id}.wav") == samples_of(source), f"{call_id} is not exact"


@pytest.fixture
async def recorders(fleet: Fleet, http: aiohttp.ClientSession, tmp_path: Path) -> Recorders:
    out = tmp_path / "recordings"
    fleet.flags += ("--lease-ttl", "3")
    fleet.environ |= {
        "RECORDER_OUT": str(out),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
    }
    balancer, _ = await asyncio.gather(fleet.balancer(), fleet.watchdog())
    return Recorders(fleet, balancer.url, out, http)


@pytest.mark.slow
async def test_a_recording_is_exact_though_its_owner_is_killed_three_times(
    speech: list[Path], recorders: Recorders
) -> None:
    await recorders.add("one", "two", "three", "four")
    await recorders.submit("call-1", speech[0], speed=3)
    killed = ""
    for _ in range(3):
        killed = await recorders.owner_that_wrote("call-1", not_by=killed)
        recorders.workers[killed].kill()
    await recorders.completed("call-1", within_s=30)
    recorders.check("call-1", speech[0])
    assert [path.name for path in recorders.out.iterdir()] == ["call-1.wav"], "parts were left behind"


@pytest.mark.slow
async def test_a_recording_is_exact_though_a_paused_owner_wakes_up_beside_the_next(
    speech: list[Path], recorders: Recorders
) -> None:
    await recorders.add("one", "two")
    await recorders.submit("call-1", speech[CALLS // 2], speed=4)
    paused = await recorders.owner_that_wrote("call-1")
    recorders.workers[paused].stop()
    await recorders.owner_that_wrote("call-1", not_by=paused)
    recorders.workers[paused].cont()
    await recorders.completed("call-1", within_s=30)
    recorders.check("call-1", speech[CALLS // 2])


@pytest.mark.slow
async def test_a_recording_is_exact_though_its_owner_is_drained(
    speech: list[Path], recorders: Recorders
) -> None:
    await recorders.add("one", "two")
    await recorders.submit("call-1", speech[CALLS // 2], speed=4)
    drained = await recorders.owner_that_wrote("call-1")
    recorders.workers[drained].terminate()
    assert await recorders.workers[drained].ended() == 0
    await recorders.owner_that_wrote("call-1", not_by=drained)
    segments = list((recorders.out / "call-1.wav.parts").rglob("*.wav"))
    assert any(len(samples_of(path)) % (2 * RATE) for path in segments), "what was heard last was not kept"
    await recorders.completed("call-1", within_s=30)
    recorders.check("call-1", speech[CALLS // 2])


@pytest.mark.slow
async def test_twenty_calls_are_recorded_exactly_though_a_worker_is_killed(
    speech: list[Path], recorders: Recorders
) -> None:
    await recorders.add("one", "two", "three")
    calls = {f"call-{i}": source for i, source in enumerate(speech)}
    assert len(calls) == CALLS
    await asyncio.gather(*(recorders.submit(call_id, source, speed=6) for call_id, source in calls.items()))
    await asyncio.gather(*(recorders.owner_that_wrote(f"call-{i}") for i in range(3)))
    sessions = await asyncio.gather(*(recorders.session(call_id) for call_id in calls))
    owners = Counter(session["owner"] for session in sessions if session["state"] == "active")
    busiest, running = owners.most_common(1)[0]
    assert running > 1, "there is little to lose: the calls were over too soon"
    recorders.workers[busiest].kill()
    await asyncio.gather(*(recorders.completed(call_id, within_s=60) for call_id in calls))
    for call_id, source in calls.items():
        recorders.check(call_id, source)
