"""The commands with which people look at a running system and act on it, against real programs."""

import json
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from harness.processes import Program
from harness.waiting import eventually

pytestmark = pytest.mark.redis


@asynccontextmanager
async def ended(*arguments, **environ):
    program = Program("mediaflow", *arguments, environ=environ)
    try:
        await program.ended()
        yield program
    finally:
        program.close()


async def submit(http, url, *call_ids):
    for call_id in call_ids:
        async with http.post(f"{url}/calls/{call_id}") as answer:
            assert answer.status == 201


@pytest.mark.slow
async def test_a_drain_says_how_many_sessions_were_handed_off_and_to_whom_and_the_call_tells_it(fleet, http):
    await fleet.watchdog()
    alpha = await fleet.worker("alpha", 5)
    await submit(http, alpha.url, "call-1", "call-2")
    await fleet.worker("beta", 5)
    url = (await fleet.balancer()).url
    async with ended("drain", "alpha", "--url", url, "--json") as drain:
        assert drain.returncode == 0, drain.report()
        found = json.loads(drain.stdout[0])
    assert found.pop("seconds") < 30
    assert found == {
        "instanceId": "alpha",
        "left": True,
        "sessions": 2,
        "handedOff": 2,
        "takenUp": {"beta": 2},
        "waiting": 0,
        "ended": 0,
    }
    assert await alpha.ended(10) == 0
    async with ended("call", "call-1", "--json", MEDIAFLOW_URL=url) as call:
        assert call.returncode == 0, call.report()
        report = json.loads(call.stdout[0])
    assert report["call"]["sessions"][0]["owner"] == "beta"
    assert [(owner["instanceId"], owner["ended"]) for owner in report["owners"]] == [
        ("alpha", "drained"),
        ("beta", ""),
    ]
    async with ended("call", "call-1", "--url", url) as call:
        text = "\n".join(call.stdout)
    assert "session.handoff" in text
    assert "\x1b" not in text
    async with ended("drain", "alpha", "--url", url) as drain:
        assert drain.returncode == 1
    assert len(drain.stderr) == 1, drain.report()
    assert "beta" in drain.stderr[0]


@pytest.mark.slow
async def test_a_drain_that_waits_for_its_calls_is_begun_without_waiting_and_given_up_in_time(fleet, http):
    worker = await fleet.worker("alpha", 5, "--drain", "wait", "--drain-timeout", "600")
    await submit(http, worker.url, "call-1")
    url = (await fleet.balancer()).url
    async with ended("drain", "alpha", "--url", url, "--no-wait") as drain:
        assert drain.returncode == 0, drain.report()
        assert "1 session" in drain.stdout[0]
    async with ended("drain", "alpha", "--url", url, "--timeout", "0.5") as drain:
        assert drain.returncode == 1, drain.report()
        assert "goes on draining" in drain.stderr[0]
    async with http.delete(f"{worker.url}/calls/call-1") as answer:
        assert answer.status == 204
    assert await worker.ended() == 0


@pytest.mark.slow
async def test_top_in_a_pipe_prints_once_and_ends(fleet, http):
    worker = await fleet.worker("alpha", 1)
    await submit(http, worker.url, "call-1", "call-2")
    url = (await fleet.balancer()).url
    async with ended("top", "--url", url) as top:
        assert top.returncode == 0, top.report()
        text = "\n".join(top.stdout)
    assert "\x1b" not in text
    assert text.index("call-2") < text.index("call-1"), "the one that waits comes first"
    async with ended("top", "--url", url, "--json") as top:
        found = json.loads(top.stdout[0])
    assert [row["state"] for row in found["sessions"]] == ["pending", "active"]
    assert [view["instanceId"] for view in found["instances"]] == ["alpha"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux for a terminal")
async def test_top_on_a_terminal_follows_what_happens_and_leaves_on_q(fleet, http, tmp_path):
    worker = await fleet.worker("alpha", 5)
    url = (await fleet.balancer()).url
    tmux = ["tmux", "-S", str(tmp_path / "tmux")]

    def run(*words):
        return subprocess.run([*tmux, *words], capture_output=True, text=True, timeout=20, check=True).stdout

    command = f"{sys.executable} -m mediaflow top --url {url} --interval 0.1; echo left with $?; cat"
    run("new-session", "-d", "-x", "100", "-y", "30", command)
    try:
        await eventually(lambda: "0 of 5 slots" in run("capture-pane", "-p"), 30)
        await submit(http, worker.url, "room-7")
        await eventually(lambda: "session.activated" in run("capture-pane", "-p"), 20)
        await eventually(lambda: "1 of 5 slots" in run("capture-pane", "-p"), 20)
        run("send-keys", "q")
        await eventually(lambda: "left with 0" in run("capture-pane", "-p"), 20)
    finally:
        run("kill-server")


@pytest.mark.slow
async def test_a_missing_or_a_wrong_token_is_a_line_that_says_what_to_set(fleet):
    url = (await fleet.balancer("--api-token", "s3cret")).url
    for command in (["status"], ["top"], ["call", "x"], ["drain", "x"]):
        async with ended(*command, "--url", url) as refused:
            assert refused.returncode == 1
        assert len(refused.stderr) == 1, refused.report()
        assert "set MEDIAFLOW_API_TOKEN" in refused.stderr[0]
    async with ended("status", "--url", url, MEDIAFLOW_API_TOKEN="wrong") as refused:
        assert "not the one" in refused.stderr[0]
    async with ended("status", "--url", url, MEDIAFLOW_API_TOKEN="s3cret") as status:
        assert status.returncode == 0, status.report()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["top"], ["call", "x"], ["drain", "x"], ["status"]])
async def test_a_balancer_that_is_not_there_is_a_line_that_says_what_to_do(command):
    async with ended(*command, "--url", "http://127.0.0.1:9") as refused:
        assert refused.returncode == 1
    assert len(refused.stderr) == 1, refused.report()
    assert "--url" in refused.stderr[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
async def test_bash_completes_commands_and_the_instances_that_can_be_drained(fleet, tmp_path):
    await fleet.worker("alpha")
    url = (await fleet.balancer()).url
    async with ended("completion", "bash") as completion:
        assert completion.returncode == 0, completion.report()
        assert "complete -o nosort" in "\n".join(completion.stdout)
    async with ended(_MEDIAFLOW_COMPLETE="bash_complete", COMP_WORDS="mediaflow dr", COMP_CWORD="1") as asked:
        assert list(asked.stdout) == ["plain,drain"]
    words = f"mediaflow drain --url {url} al"
    async with ended(_MEDIAFLOW_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="4") as asked:
        assert list(asked.stdout) == ["plain,alpha"]
    async with ended(
        _MEDIAFLOW_COMPLETE="bash_complete",
        COMP_WORDS="mediaflow drain --url http://127.0.0.1:9 al",
        COMP_CWORD="4",
    ) as asked:
        assert asked.returncode == 0
        assert asked.report().count("plain") == 0, asked.report()
