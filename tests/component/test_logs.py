"""Log lines of the programs."""

import logging

import pytest
import structlog

from mediaflow.telemetry import logs


@pytest.fixture
def root_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_where_but_no_local_variables(root_as_it_was, capsys, form):
    def handler():
        password = "hunter" + "2"
        raise RuntimeError(f"no luck with {len(password)} letters")

    logs.configure("info", form)
    try:
        handler()
    except RuntimeError as error:
        structlog.get_logger("test").warning("attempt failed", exc_info=error)
        logging.getLogger("test").warning("attempt failed", exc_info=error)
    written = capsys.readouterr()
    assert not written.out
    assert written.err.count("no luck with 7 letters") >= 2
    assert written.err.count("in handler") == 2
    assert "hunter2" not in written.err
