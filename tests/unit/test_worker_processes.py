"""How the settings of a worker on several processes are shared out, and how another process finds the app."""

import sys
import types

import pytest
from harness import handlers

from mediaflow import MediaApp
from mediaflow.processes.environment import environment
from mediaflow.settings import Settings, SettingsError, load
from mediaflow.worker.handlers import importing, load_app, reference_of
from mediaflow.worker.several import split


def test_each_process_has_a_name_a_port_and_an_address_of_its_own():
    parts = split(Settings(processes=3, port=9000, advertise="10.0.0.5:80", slots=7), "rec")
    assert [(part.instance_id, part.port, part.advertise) for part in parts] == [
        ("rec-1", 9000, "10.0.0.5:80"),
        ("rec-2", 9001, "10.0.0.5:81"),
        ("rec-3", 9002, "10.0.0.5:82"),
    ]
    assert {(part.processes, part.slots) for part in parts} == {(1, 7)}


def test_without_a_port_the_usual_one_is_the_first_and_with_0_each_picks_its_own():
    assert [part.port for part in split(Settings(processes=2), "x")] == [8081, 8082]
    assert [part.port for part in split(Settings(processes=2, port=0), "x")] == [0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(processes=2, port=65535), "port = 65535 leaves no port for each of 2 processes"),
        (Settings(processes=3, advertise="h:65534"), "advertise = 'h:65534' leaves no port"),
        (Settings(processes=2, port=0, advertise="h:80"), "give --port as well"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        split(settings, "x")


def test_a_name_that_grows_too_long_is_refused():
    with pytest.raises(SettingsError, match="instance id"):
        split(Settings(processes=2), "x" * 64)


def test_settings_come_through_the_environment_as_they_were():
    settings = load({"slots": 9, "readmit": False, "jwt_algorithms": "RS256,ES256", "jwt_key": "k"})
    passed_on = environment(settings, {"PATH": "/bin", "MEDIAFLOW_SLOTS": "1"}, frozenset())
    assert load(environ=passed_on) == settings
    assert passed_on["PATH"] == "/bin"


def test_a_coroutine_function_of_a_module_is_found_again_by_its_name():
    reference = reference_of(handlers.idle)
    assert reference == "harness.handlers:idle"
    assert load_app(reference).handler is handlers.idle


def test_the_module_that_was_run_as_a_script_is_found_by_its_file(monkeypatch):
    async def record(session):
        del session

    main = types.ModuleType("__main__")
    main.__file__, main.record = "/srv/app/recorder.py", record
    record.__module__, record.__qualname__ = "__main__", "record"
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert reference_of(record) == "recorder:record"


def test_an_app_is_named_itself_so_that_its_hooks_come_along(monkeypatch):
    async def record(session):
        del session

    module = types.ModuleType("bot")
    module.record = record
    record.__module__, record.__qualname__ = "bot", "record"
    monkeypatch.setitem(sys.modules, "bot", module)
    app = MediaApp(load=lambda: 0.5)
    with pytest.raises(ValueError, match="top level of a module"):
        reference_of(record, app.hooks)
    module.app = app
    module.app.session(record)
    assert reference_of(record, module.app.hooks) == "bot:app"


def test_what_another_process_cannot_import_is_refused_with_a_way_out():
    async def inner(session):
        del session

    with pytest.raises(ValueError, match="top level of a module, or set processes = 1"):
        reference_of(inner)


def test_an_app_that_runs_while_it_is_imported_is_told_why_not(tmp_path, monkeypatch):
    (tmp_path / "unguarded_app.py").write_text(
        "from mediaflow import MediaApp\n"
        "app = MediaApp(processes=2)\n"
        "@app.session\n"
        "async def record(session):\n"
        "    pass\n"
        "app.run()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="put it under if __name__"):
        load_app("unguarded_app:app")
    assert not importing()
