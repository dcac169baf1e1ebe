"""One frozen :class:`Settings`: flags over environment over file over defaults.

Every setting is a flag of the programs that use it, an environment variable ``MEDIAFLOW_<NAME>``
and a key of ``config/mediaflow.toml``. Durations are in seconds. What contradicts itself is
rejected here, once, before anything is started.
"""

import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mediaflow.core import names
from mediaflow.core.lease import MIN_TTL_S
from mediaflow.core.partitions import MAX_PARTITIONS
from mediaflow.core.policy import MAX_RULES, CountBy, Rule

ENV_PREFIX = "MEDIAFLOW_"
MAX_RETENTION_S = 366 * 24 * 3600.0
WILDCARDS = frozenset({"0.0.0.0", "::", "[::]", "*", ""})  # noqa: S104 - refused, not bound

Admission = Literal["queue", "reject"]
Drain = Literal["handoff", "wait"]
OnNetworkPartition = Literal["keep", "stop"]
SECRETS = frozenset({"api_token", "jwt_key", "redis_url", "token_key"})
"""Settings whose values no message may show as they are; a URL may hold a password."""

OnStoreDown = Literal["allow", "deny"]
JwtAlgorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]


class SettingsError(ValueError):
    """A setting is wrong; the message says which, with what value, from where, and what to do."""


def _about(text: str, **bounds: Any) -> msgspec.Meta:
    return msgspec.Meta(description=text, **bounds)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, with its default; durations in seconds. See ``config/README.md`` for each."""

    redis_url: Annotated[
        str,
        _about(
            "Where Redis is: redis://, rediss://, unix://, redis+sentinel://host:port,…/service, "
            "redis+cluster://host:port,…, or memory:// for a store inside this process."
        ),
    ] = "redis://127.0.0.1:6379/0"
    namespace: Annotated[str, _about("Prefix of every key and channel; two namespaces never meet.")] = (
        "mediaflow"
    )
    partitions: Annotated[
        int,
        _about(
            "Shards of the key space. Fixed when the namespace is first used.",
            ge=1,
            le=MAX_PARTITIONS,
        ),
    ] = 32
    instance_id: Annotated[
        str, _about("Name of this instance; empty: host name, process id and a random part.")
    ] = ""
    host: Annotated[str, _about("Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=65535)] | None,
        _about(
            "Port to listen on; 0 picks a free one. Default: 8080 balancer, 8081 worker, 8082 watchdog, "
            "8090 concurrency."
        ),
    ] = None
    advertise: Annotated[
        str,
        _about("host:port at which others reach this instance; empty: host and port as listened on."),
    ] = ""
    processes: Annotated[
        int,
        _about(
            "Processes of a worker, one instance with its own slots each; names get -1, -2, … and ports count up.",
            ge=1,
            le=256,
        ),
    ] = 1
    slots: Annotated[int, _about("Sessions that one instance runs at most.", ge=1, le=1_000_000)] = 100
    load_threshold: Annotated[
        float,
        _about("Load (0 to 1) above which an instance takes nothing new, where it measures one.", gt=0, le=1),
    ] = 0.9
    lease_ttl: Annotated[
        float,
        _about("Life of a lease; it is renewed each third of it.", ge=MIN_TTL_S, le=3600),
    ] = 10.0
    retention: Annotated[
        float,
        _about("How long an ended call and its idempotency keys are remembered.", gt=0, le=MAX_RETENTION_S),
    ] = 3600.0
    admission: Annotated[
        Admission, _about("With no free slot anywhere: queue the call as pending, or reject it (503).")
    ] = "queue"
    max_pending: Annotated[
        int, _about("Pending sessions at most; further calls are refused (503).", ge=0)
    ] = 10_000
    max_attempts: Annotated[int, _about("How often a coroutine that raises is started, all told.", ge=1)] = 3
    max_takeovers: Annotated[
        int,
        _about(
            "Takeovers in a row, each after less than one lease of running, after which a session is parked "
            "as failed.",
            ge=1,
        ),
    ] = 5
    accept_ttl: Annotated[
        float, _about("How long an instance has to accept an assignment before it is given again.", gt=0)
    ] = 2.0
    drain: Annotated[
        Drain,
        _about("On SIGTERM: hand sessions off at once, or wait for them to end for drain_timeout first."),
    ] = "handoff"
    drain_timeout: Annotated[float, _about("How long a draining instance waits with drain = wait.", ge=0)] = (
        30.0
    )
    on_network_partition: Annotated[
        OnNetworkPartition,
        _about(
            "When a lease is over and Redis cannot be reached: keep the coroutine going (the call may run "
            "twice), or stop it (it may not run at all)."
        ),
    ] = "keep"
    durability_replicas: Annotated[
        int,
        _about(
            "Replicas that must hold a new call before it is acknowledged (WAIT); 0 asks none.", ge=0, le=16
        ),
    ] = 0
    api_token: Annotated[str, _about("When set, requests need Authorization: Bearer with it.")] = ""
    stream_limit: Annotated[int, _about("Streams that a user may play at once.", ge=0, le=10_000)] = 3
    count_by: Annotated[CountBy, _about("What stream_limit counts: streams, or distinct devices.")] = "stream"
    stream_rules: Annotated[
        tuple[Rule, ...],
        _about(
            "Further rules, all of which must allow a stream; as a variable or flag: JSON.",
            max_length=MAX_RULES,
        ),
    ] = ()
    stream_ttl: Annotated[float, _about("Life of a stream after its last heartbeat.", ge=1, le=86_400)] = 90.0
    stream_heartbeat_interval: Annotated[
        float, _about("How often players are told to send a heartbeat.", gt=0, le=86_400)
    ] = 30.0
    stream_throttle: Annotated[
        int, _about("Requests a minute, for each stream and for each user.", ge=1, le=1_000_000)
    ] = 200
    readmit: Annotated[bool, _about("A heartbeat brings an expired stream back if there is room.")] = True
    on_store_down: Annotated[
        OnStoreDown, _about("With Redis away: allow streams uncounted, or deny them (503).")
    ] = "allow"
    stream_tokens: Annotated[
        bool,
        _about("Each answer about a stream carries a signed token; else `token` is null, which costs less."),
    ] = True
    token_key: Annotated[
        str,
        _about(
            "Private key (Ed25519 or P-256) that signs stream tokens: PEM, or a file's path; empty: made once and kept "
            "in Redis."
        ),
    ] = ""
    jwt_algorithms: Annotated[
        tuple[JwtAlgorithm, ...],
        _about("Signatures that bearer tokens may have; empty: players are not authenticated."),
    ] = ()
    jwt_key: Annotated[
        str, _about("What verifies bearer tokens: a secret (HS256), or a public key as PEM or a file's path.")
    ] = ""
    jwt_jwks: Annotated[
        str, _about("Where the keys are that verify bearer tokens: an https URL, or a file's path.")
    ] = ""
    jwt_issuer: Annotated[str, _about("Issuer that bearer tokens must name; empty: any.")] = ""
    jwt_audience: Annotated[str, _about("Audience that bearer tokens must name; empty: any.")] = ""
    jwt_user_claim: Annotated[str, _about("Claim that is the userId.", min_length=1)] = "sub"
    jwt_device_claim: Annotated[str, _about("Claim that is the deviceId, where there is one.")] = "device_id"
    jwt_limit_claim: Annotated[
        str, _about("Claim that is the user's limit of streams, where there is one.")
    ] = "stream_limit"
    log_level: Annotated[LogLevel, _about("Least important log line that is printed.")] = "info"
    log_format: Annotated[
        LogFormat, _about("Log lines for people or for machines; auto: console on a terminal, else json.")
    ] = "auto"

    def __post_init__(self) -> None:
        """Reject what contradicts itself."""
        for problem in _contradictions(self):
            raise SettingsError(problem)

    @property
    def renew_interval_s(self) -> float:
        """Seconds between two renewals of a lease, before spreading."""
        return self.lease_ttl / 3


def _contradictions(settings: Settings) -> list[str]:
    found: list[str] = []
    for check, value in (
        (names.check_namespace, settings.namespace),
        (names.check_instance_id, settings.instance_id or "unnamed"),
    ):
        try:
            check(value)
        except names.IllegalName as error:
            found.append(str(error))
    if settings.accept_ttl >= settings.lease_ttl:
        found.append(
            f"accept_ttl = {settings.accept_ttl:g} must be shorter than lease_ttl = {settings.lease_ttl:g}: "
            "lower the one or raise the other"
        )
    if settings.retention < 2 * settings.lease_ttl:
        found.append(
            f"retention = {settings.retention:g} must be at least twice lease_ttl = {settings.lease_ttl:g}: "
            "an owner that returns has to find what became of its session"
        )
    if settings.api_token != settings.api_token.strip() or not settings.api_token.isprintable():
        found.append("api_token = (hidden): use printable characters, and no space at an end")
    if settings.advertise:
        found.extend(_advertise_problems(settings.advertise))
    return found + _stream_contradictions(settings)


def _stream_contradictions(settings: Settings) -> list[str]:
    found: list[str] = []
    if settings.stream_heartbeat_interval >= settings.stream_ttl:
        found.append(
            f"stream_heartbeat_interval = {settings.stream_heartbeat_interval:g} must be shorter than "
            f"stream_ttl = {settings.stream_ttl:g}: a stream has to be heard of within its life"
        )
    if any(rule.policy == "user" for rule in settings.stream_rules):
        found.append(
            "stream_rules: 'user' is the name of stream_limit's own rule: give this rule another one"
        )
    keys = bool(settings.jwt_key) + bool(settings.jwt_jwks)
    if settings.jwt_algorithms and keys != 1:
        found.append("jwt_algorithms need one source of keys: set jwt_key or jwt_jwks, and not both")
    if keys and not settings.jwt_algorithms:
        found.append(
            "jwt_key and jwt_jwks verify nothing without jwt_algorithms: say which signatures to accept"
        )
    if "HS256" in settings.jwt_algorithms and len(settings.jwt_algorithms) > 1:
        # A public key taken for a shared secret lets anyone sign (RFC 8725, section 2.1).
        found.append("jwt_algorithms mix HS256 with public-key signatures: accept the one or the others")
    return found


def _advertise_problems(address: str) -> list[str]:
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        return [f"advertise = {_shown('advertise', address)}: give host:port, for example 10.0.0.5:8081"]
    if host in WILDCARDS:
        return [
            f"advertise = {address!r} is a wildcard, which others cannot reach: give the address of this host"
        ]
    return []


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    *,
    spell: Callable[[str], str] = lambda name: "--" + name.replace("_", "-"),
) -> Settings:
    """Gather the settings of one program.

    Args:
        flags: From the command line or a constructor; entries that are None were not given.
        environ: The process environment; only ``MEDIAFLOW_*`` is looked at.
        config: A TOML file; None reads none, and the file named by ``MEDIAFLOW_CONFIG`` if there is one.
        spell: How the user wrote a flag, for the messages.

    Raises:
        SettingsError: A value is of the wrong kind or out of bounds, two contradict each other, a key of
            the file is unknown, or the file cannot be read.
    """
    return load_with_origins(flags, environ, config, spell=spell)[0]


def load_with_origins(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    *,
    spell: Callable[[str], str] = lambda name: "--" + name.replace("_", "-"),
) -> tuple[Settings, Mapping[str, str]]:
    """Gather settings as :func:`load` does; say also where each came from that is not the default.

    Returns:
        The settings, and by name the flag, the environment variable or the key and file that was given.

    Raises:
        SettingsError: As :func:`load`.
    """
    environ = environ or {}
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}

    def take(found: Mapping[str, Any], source: Callable[[str], str]) -> None:
        for name, value in found.items():
            values[name] = value
            origin[name] = source(name)

    path = config or (Path(environ["MEDIAFLOW_CONFIG"]) if environ.get("MEDIAFLOW_CONFIG") else None)
    if path is not None:
        take(_read_file(path), lambda name: f"{name} in {path}")
    known = set(Settings.__struct_fields__)
    take(
        {name: environ[env_name(name)] for name in known if env_name(name) in environ},
        env_name,
    )
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    if unknown := sorted(given.keys() - known):
        raise SettingsError(
            f"unknown setting {unknown[0]!r:.100}: the settings are {', '.join(sorted(known))}"
        )
    take(given, spell)
    for name in values:
        _check_one(name, values, origin)
    return Settings(**values), origin


def env_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def describe() -> dict[str, tuple[Any, str]]:
    """Return each setting's default and its sentence, in order of definition."""
    about: dict[str, tuple[Any, str]] = {}
    for field in msgspec.structs.fields(Settings):
        metadata = getattr(field.type, "__metadata__", ())
        text = next((m.description for m in metadata if isinstance(m, msgspec.Meta) and m.description), "")
        about[field.name] = (field.default, text)
    return about


_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_INDEX = {name: index for index, name in enumerate(Settings.__struct_fields__)}


def _check_one(name: str, values: dict[str, Any], origin: dict[str, str]) -> None:
    value = values[name]
    try:
        found = msgspec.convert(_listed(name, value), _TYPES[name], strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = math.nan
    if isinstance(found, float) and not math.isfinite(found):
        raise SettingsError(f"{origin[name]} = {_shown(name, value)}: {allowed(name)}")
    values[name] = found


def _shown(name: str, value: Any) -> str:
    if name in SECRETS:
        return "(hidden)"
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # too many digits, too deep
        shown = type(value).__name__
    return shown if len(shown) <= 100 else f"{shown:.100}…"


def _listed(name: str, value: Any) -> Any:
    """Take a list apart that came as a text: JSON, or words between commas."""
    if not isinstance(value, str) or not isinstance(Settings.__struct_defaults__[_INDEX[name]], tuple):
        return value
    if value.lstrip().startswith("["):
        return msgspec.json.decode(value)
    return [word.strip() for word in value.split(",") if word.strip()]


def allowed(name: str) -> str:
    """Return in words which values a setting takes, for example ``use a whole number from 1 to 1024``."""
    kind = msgspec.inspect.type_info(_TYPES[name])
    while isinstance(kind, msgspec.inspect.Metadata | msgspec.inspect.UnionType):
        kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind.types[0]
    match kind:
        case msgspec.inspect.LiteralType(values=values):
            *first, last = (str(value) for value in values)
            return f"use {', '.join(first)} or {last}"
        case msgspec.inspect.IntType():
            return f"use a whole number{_bounds(kind)}"
        case msgspec.inspect.FloatType():
            return f"use a number of seconds{_bounds(kind)}"
        case msgspec.inspect.BoolType():
            return "use true or false"
        case msgspec.inspect.VarTupleType():
            return (
                "use a list"
                if name == "stream_rules"
                else f"use some of {_choices(kind)}, with commas between"
            )
        case _:
            return "use a text"


def _choices(kind: msgspec.inspect.VarTupleType) -> str:
    item = kind.item_type
    return ", ".join(map(str, item.values)) if isinstance(item, msgspec.inspect.LiteralType) else "a list"


def _bounds(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {_figure(kind.le)}"
    least = f" above {kind.gt:g}" if kind.gt is not None else f", {kind.ge or 0:g} or more"
    return least if kind.le is None else f"{least}, at most {_figure(kind.le)}"


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100_000 else f"{number:g}"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # nor is what is nested too deeply, or has too many digits
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from None
    unknown = sorted(found.keys() - _TYPES.keys())
    if unknown:
        raise SettingsError(
            f"unknown setting {unknown[0]!r:.100} in {path}: see config/mediaflow.toml for all of them"
        )
    return found
