"""`mediaflow call`: a call as it is, and how it came to be so."""

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mediaflow.api.messages import CallView, EventView, SessionView
from mediaflow.cli import drawing
from mediaflow.cli.asking import balancer, json_option, print_json, run, url_option
from mediaflow.cli.stints import Stint, stints
from mediaflow.core.names import IllegalName, check_call_id
from mediaflow.supervisor.caller import NotThere
from mediaflow.supervisor.figures import count
from mediaflow.web.hosting import StartError

_MOST_EVENTS = 200
"""Lines of history that are printed; a session that is taken over for days has more. ``--json`` has all."""


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is shown; printed as it is with ``--json``. ``call`` is None if only its history is left."""

    call_id: str
    call: CallView | None
    owners: list[Stint]
    events: list[EventView]


def _call(call_id: str, *, url: str, as_json: bool) -> int:
    try:
        check_call_id(call_id)
    except IllegalName as error:
        raise click.UsageError(str(error)) from None
    report = run(_ask(call_id, url))
    if report is None:
        raise StartError(
            f"there is no call {call_id!r}: it never was, or it ended longer than the retention ago; "
            "`mediaflow status` counts those there are"
        )
    if as_json:
        print_json(report)
    else:
        _show(report)
    return 0


async def _ask(call_id: str, url: str) -> Report | None:
    async with balancer(url) as caller:
        view = await caller.look(call_id)
        try:
            events = await caller.history(call_id)
        except NotThere:
            events = []
    if view is None and not events:
        return None
    return Report(call_id=call_id, call=view, owners=stints(events), events=events)


def _show(report: Report) -> None:
    console = drawing.console()
    _show_call(console, report)
    if report.owners:
        console.print()
        console.print(_owners(report.owners))
    if report.events:
        console.print()
        if len(report.events) > _MOST_EVENTS:
            console.print(
                f"the last {_MOST_EVENTS} of {count(len(report.events), 'event')}; --json prints all",
                style="dim",
            )
        console.print(_history(report.events[-_MOST_EVENTS:]))


def _show_call(console: Console, report: Report) -> None:
    if report.call is None:
        console.print(f"{report.call_id} is over and forgotten; this is what the log still holds")
        return
    console.print(Text.assemble((report.call_id, "bold"), " is ", drawing.state(report.call.state)))
    for session in report.call.sessions:
        console.print(Text.assemble("  session ", session.session_id, " ", *_about(session)), soft_wrap=True)
        if session.details:
            console.print(f"    details {msgspec.json.encode(session.details).decode()}", soft_wrap=True)


def _about(session: SessionView) -> list[Text | str]:
    about: list[Text | str] = [drawing.state(session.state)]
    if session.owner:
        about.append(f", owned by {session.owner}")
    if session.fence:
        about.append(f", fence {session.fence}")
    about.append(f", attempt {session.attempt}")
    if session.state == "active":
        about.append(f", lease {session.lease_remaining_ms / 1000:.1f} s left")
    if session.end_reason:
        about.append(f": {session.end_reason}")
    return about


def _owners(found: list[Stint]) -> Table:
    table = drawing.table("owner", "since", "for", "fence", "because", "until", right=("for", "fence"))
    several = len({stint.session_id for stint in found}) > 1
    if several:
        table.add_column("session", no_wrap=True)
    for stint in found:
        lasted = "now" if stint.duration_ms is None else drawing.duration(stint.duration_ms)
        table.add_row(
            stint.instance_id or drawing.MISSING,
            drawing.time_of_day(stint.since),
            lasted,
            str(stint.fence),
            stint.began,
            stint.ended or drawing.MISSING,
            *([stint.session_id] if several else []),
        )
    _let_fold(table, "owner", "because", "until")
    return table


def _history(events: list[EventView]) -> Table:
    table = drawing.table("when", "what", "instance", "fence", "why", right=("fence",))
    day = ""
    for event in events:
        today = f"{drawing.moment(event.at):%Y-%m-%d}"
        if today != day:
            day = today
            table.add_row(Text(day, "dim"))
        table.add_row(
            drawing.time_of_day(event.at),
            drawing.event(event.event),
            event.instance_id or drawing.MISSING,
            str(event.fence or drawing.MISSING),
            event.reason or "",
        )
    _let_fold(table, "instance", "why")
    return table


def _let_fold(table: Table, *names: str) -> None:
    for column in table.columns:
        if column.header in names:
            column.no_wrap, column.overflow = False, "fold"


command = click.Command(
    "call",
    callback=_call,
    help="Show CALL_ID as it is now, who owned it for how long, and its history as far back as the log goes.",
    short_help="Show a call and its history.",
    params=[click.Argument(["call_id"]), url_option(), json_option("all of it")],
)
