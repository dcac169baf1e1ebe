"""Redis behind TLS and behind a user with no more rights than needed; what is wrong there is a line that says so."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import re
import uuid
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness.ports import free_port
from harness.waiting import eventually

from mediaflow import MediaApp, StreamLimiter
from mediaflow.settings import Settings, SettingsError
from mediaflow.store import StoreUnavailable, open_store

pytestmark = pytest.mark.redis

COMMANDS = tuple(
    f"+{name}"
    for line in (
        "del eval evalsha get hdel hget hgetall hlen hmget hset hsetnx info persist pexpire ping publish sadd scard",
        "set smembers srem subscribe time unsubscribe wait xadd xlen xrange xrevrange zadd zcard zrange zrangebylex",
        "zrangebyscore zrem zscore",
    )
    for name in line.split()
)
"""What a user of Redis has to be allowed; config/security.md tells people to write just this."""

PASSWORD = "sesame-and-more"
CREDENTIALS = (f"mediaflow:{PASSWORD}-not", f"nobody:{PASSWORD}", f":{PASSWORD}")


def write_pem(path, *parts: bytes) -> str:
    path.write_bytes(b"".join(parts))
    return str(path)


def certificate(subject: str, key, issuer: str, issuer_key, *, authority: bool) -> bytes:
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The files of an authority, of a server that it signed, and of an authority that signed nothing."""
    folder = tmp_path_factory.mktemp("tls")
    ours, server, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    private = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "ca": write_pem(folder / "ca.pem", certificate("ca", ours, "ca", ours, authority=True)),
        "cert": write_pem(folder / "cert.pem", certificate("redis", server, "ca", ours, authority=False)),
        "key": write_pem(folder / "key.pem", private),
        "wrong": write_pem(folder / "wrong.pem", certificate("ca", other, "ca", other, authority=True)),
    }


@pytest.fixture
def tls(new_redis, certificates):
    """The port at which a Redis speaks TLS."""
    port = free_port()
    try:
        new_redis(
            *("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", certificates["ca"]),
            *("--tls-cert-file", certificates["cert"], "--tls-key-file", certificates["key"]),
        )
    except RuntimeError as error:
        pytest.skip(f"this redis-server was built without TLS: {error}")
    return port


async def said(url: str, **settings) -> str:
    """Return what an attempt to use a Redis ends in; empty if it works."""
    store = await open_store(Settings(redis_url=url, **settings))
    try:
        await store.check(timeout_s=1)
    except StoreUnavailable as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 250, message
        assert "0x" not in message
        assert PASSWORD not in message
        return message
    finally:
        await store.close()
    return ""


async def use_everything(url: str, namespace: str) -> None:
    """A call that runs, waits, is taken over and ended, all that can be read, and a stream."""
    async with contextlib.AsyncExitStack() as stack:
        app = MediaApp(redis=url, namespace=namespace, slots=1, lease_ttl=3)

        @app.session
        async def handler(session) -> None:
            await session.checkpoint({"a": 1})
            await session.publish(b=2)
            await asyncio.sleep(30)

        await stack.enter_async_context(app)
        first = await app.start_call("one", {"a": 1}, idempotency_key="k")
        assert (await app.start_call("one", {"a": 1}, idempotency_key="k")).session_id == first.session_id
        assert (await app.start_call("two")).state == "pending"
        assert await app.end_call("one")
        store = await stack.enter_async_context(
            contextlib.aclosing(OpenStore(await open_store(app.settings)))
        )

        async def state():
            found = await store.inner.describe("two")
            return found and found.state

        # Heard through pub/sub: without it the session would wait for its acceptance in vain.
        await eventually(state, 10, until=lambda seen: seen == "active")
        assert {
            call.call_id for call in (await store.inner.calls(state=None, cursor=None, limit=10)).calls
        } == {"one", "two"}
        assert await store.inner.history("one")
        await store.inner.events(await store.inner.tail())
        assert await store.inner.instances()
        limiter = await stack.enter_async_context(StreamLimiter(redis=url, namespace=namespace))
        stream = await limiter.start("ann", "tv", {"channel": "one"})
        assert not stream.degraded
        await limiter.heartbeat("ann", stream.stream_id)
        await limiter.set_limit("ann", 2)
        await limiter.set_limit("ann", None)
        assert (await limiter.list("ann")).streams
        await limiter.stop("ann", stream.stream_id)


class OpenStore:
    def __init__(self, inner) -> None:
        self.inner = inner

    async def aclose(self) -> None:
        await self.inner.close()


async def test_tls_works_with_the_authority_that_signed(tls, certificates):
    await use_everything(f"rediss://127.0.0.1:{tls}/0?ssl_ca_certs={certificates['ca']}", "tls")


async def test_a_certificate_of_another_authority_is_refused_in_a_line(tls, certificates):
    for url in (
        f"rediss://127.0.0.1:{tls}/0?ssl_ca_certs={certificates['wrong']}",
        f"rediss://127.0.0.1:{tls}/0",
    ):
        message = await said(url)
        assert "certificate" in message.lower(), message


async def test_a_name_that_the_certificate_does_not_bear_is_refused(tls, certificates):
    message = await said(f"rediss://localhost:{tls}/0?ssl_ca_certs={certificates['ca']}")
    assert "certificate" in message.lower(), message


async def test_plain_where_tls_is_spoken_and_tls_where_it_is_not_are_lines(tls, redis_server, certificates):
    assert await said(f"redis://127.0.0.1:{tls}/0")
    assert await said(f"rediss://127.0.0.1:{redis_server.port}/0?ssl_ca_certs={certificates['ca']}")


@pytest.fixture
def user(redis_server):
    """Makes a user of Redis; returns its URL."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    raw = redis.Redis.from_url(redis_server.url)

    def make(*, without: str = "", rules: tuple[str, ...] = ()) -> tuple[str, str]:
        allowed = [command for command in COMMANDS if command != f"+{without}"]
        rules = rules or (f"~{namespace}:*", f"&{namespace}:*")
        raw.execute_command("ACL", "SETUSER", "mediaflow", "reset", "on", f">{PASSWORD}", *rules, *allowed)
        raw.execute_command("ACL", "LOG", "RESET")
        return f"redis://mediaflow:{PASSWORD}@127.0.0.1:{redis_server.port}/0", namespace

    make.refusals = lambda: raw.execute_command("ACL", "LOG")
    yield make
    raw.execute_command("ACL", "DELUSER", "mediaflow")
    raw.close()


def test_the_rights_that_people_are_told_to_give_are_these():
    page = (Path(__file__).parents[2] / "config" / "security.md").read_text()
    of_one_server = page.partition("ACL SETUSER mediaflow ")[2].partition("```")[0]
    assert sorted(re.findall(r" (\+\w+)", of_one_server)) == sorted(COMMANDS)


async def test_the_rights_that_are_named_suffice(user):
    url, namespace = user()
    await use_everything(url, namespace)
    assert user.refusals() == []


@pytest.mark.parametrize("command", ["info", "hmget", "hsetnx", "evalsha", "publish"])
async def test_a_missing_right_is_told_of_in_a_line_that_names_it(user, command):
    url, namespace = user(without=command)
    message = await said(url, namespace=namespace)
    assert message.startswith("Redis refused: ")
    assert "permission" in message or "can't run this command" in message
    assert command in message or command in ("hmget", "hsetnx")  # within a script Redis does not say which


@pytest.mark.parametrize("rules", [("~other:*", "&*"), ("~*", "&other:*")], ids=["keys", "channels"])
async def test_keys_or_channels_of_another_namespace_are_told_of_in_a_line(user, rules):
    url, namespace = user(rules=rules)
    message = await said(url, namespace=namespace)
    assert message.startswith("Redis refused: ")
    assert "permission" in message


async def test_without_the_right_to_listen_it_is_said_once(user, logged):
    url, namespace = user(without="subscribe")
    store = await open_store(Settings(redis_url=url, namespace=namespace))
    listening = asyncio.ensure_future(anext(aiter(store.inbox("alpha"))))
    await eventually(lambda: [line for line in logged() if "cannot be listened to" in line], 10)
    await asyncio.wait([listening], timeout=0.5)
    listening.cancel()
    await asyncio.wait([listening])
    await store.close()
    [line] = [line for line in logged() if "cannot be listened to" in line]
    assert line.startswith("error")
    assert "subscribe" in line


@pytest.mark.slow
async def test_a_key_of_another_kind_in_our_namespace_is_a_line_and_exit_status_1(fleet, redis_server):
    redis_server.command("SET", "taken:{registry}:constants", "by another program")
    program = fleet.start("concurrency", "--namespace", "taken")
    assert await program.ended() == 1
    [line] = program.stderr
    assert "WRONGTYPE" in line or "wrong kind" in line


@pytest.mark.parametrize("credentials", CREDENTIALS)
async def test_a_wrong_password_is_a_line_that_does_not_repeat_it(user, redis_server, credentials):
    user()
    message = await said(f"redis://{credentials}@127.0.0.1:{redis_server.port}/0")
    assert "password" in message or "permission" in message or "AUTH" in message, message


@pytest.mark.slow
async def test_a_right_that_is_lost_and_given_back_needs_no_restart(fleet, user, redis_server, http):
    url, namespace = user()
    worker = fleet.start("worker", "--redis", url, "--namespace", namespace)
    await worker.ready()

    async def ready():
        async with http.get(f"{worker.url}/readyz") as answer:
            return answer.status, await answer.text()

    await eventually(ready, 10, until=lambda seen: seen[0] == 200)
    user(without="hset")
    status, told = await eventually(ready, 10, until=lambda seen: seen[0] == 503)
    assert "Redis refused" in told, (status, told)
    user()
    await eventually(ready, 15, until=lambda seen: seen[0] == 200)
    assert PASSWORD not in worker.report()
    assert "Traceback" not in worker.report()


@pytest.mark.parametrize(
    "url",
    [
        f"http://ann:{PASSWORD}@host",
        f"http://{PASSWORD}@host",
        f"redis://:{PASSWORD}@host:port",
        f"redis://host:port?password={PASSWORD}&db=1",
        f"redis+sentinel://{PASSWORD}@host:1",
        f"redis+sentinel://host:1/name?sentinel_password={PASSWORD}&no=1",
        f"redis+cluster://ann:{PASSWORD}@host:port",
        f"redis://ann:{PASSWORD}@other@host:port",
    ],
)
async def test_a_url_is_shown_without_its_password_wherever_that_stands(url):
    with pytest.raises(SettingsError) as refused:
        await open_store(Settings(redis_url=url))
    assert "***" in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert "host" in str(refused.value)
