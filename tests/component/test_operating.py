"""What operators go by: dashboard, alerts and page speak of metrics that there are, and promtool takes them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.exposition import expositions, families, table

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARD = CONFIG / "grafana" / "mediaflow.json"
RULES = CONFIG / "prometheus" / "mediaflow.rules.yml"
RULE_TESTS = CONFIG / "prometheus" / "mediaflow.rules.test.yml"
PAGE = (CONFIG / "OPERATING.md").read_text()

NAME = re.compile(r"\bmediaflow_[a-z_]+\b")
MISSING = "promtool is not installed (Debian's package prometheus)"


@pytest.fixture
def promtool():
    """Runs promtool, and returns what it said and how it ended."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{MISSING}, and in CI it has to be there")
        pytest.skip(MISSING)

    def run(*arguments: str, given: str = "") -> tuple[int, str]:
        ended = subprocess.run(
            [found, *arguments], input=given, capture_output=True, text=True, check=False, timeout=60
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text())["panels"]


def queries_of_dashboard() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    variables = [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return asked + variables + [one["expr"] for one in dashboard["annotations"]["list"]]


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)$", RULES.read_text(), re.MULTILINE)


async def shown_series() -> set[str]:
    return {
        series
        for text in (await expositions()).values()
        for name, family in families(text).items()
        for series in family.series(name)
    }


async def test_every_metric_has_its_row_on_the_page_and_no_row_is_of_none():
    found = await expositions()
    written = PAGE.split("| metric | kind | of | meaning |")[1].split("\n\n")[0]
    assert ("| metric | kind | of | meaning |" + written).strip() == table(found)


async def test_dashboard_alerts_and_page_ask_for_metrics_that_there_are():
    there = await shown_series()
    families_there = {re.sub(r"_(bucket|sum|count)$", "", series) for series in there}
    assert {name for query in queries_of_dashboard() for name in NAME.findall(query)} <= there
    expressions = re.sub(r"^ *(summary|runbook_url):.*$", "", RULES.read_text(), flags=re.MULTILINE)
    assert set(NAME.findall(expressions)) <= there
    assert set(NAME.findall(PAGE)) <= there | families_there


async def test_each_metric_is_named_by_convention_and_says_what_it_is():
    for text in (await expositions()).values():
        for name, (kind, about) in families(text).items():
            assert name.endswith("_total") == (kind == "counter"), name
            assert about.endswith("."), name


def test_each_alert_has_its_section_and_refers_to_it():
    rules = RULES.read_text()
    sections = re.findall(r"^### (Mediaflow\w+)$", PAGE, re.MULTILINE)
    assert sections == alerts()
    assert re.findall(r"runbook_url: (\S+)$", rules, re.MULTILINE) == [
        f"config/OPERATING.md#{alert.lower()}" for alert in alerts()
    ]
    for section in re.split(r"^### Mediaflow", PAGE, flags=re.MULTILINE)[1:]:
        assert "**See**" in section
        assert "**Do**" in section


def test_links_within_the_page_lead_somewhere():
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors


def test_the_dashboard_s_panels_are_placed_and_leave_the_choice_of_source_and_instances_to_people():
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"])
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_each_alert_is_tested():
    tested = re.findall(r"- name: (Mediaflow\w+)$", RULE_TESTS.read_text(), re.MULTILINE)
    assert tested == alerts()


def test_prometheus_takes_the_rules_and_they_fire_when_they_should(promtool):
    status, said = promtool("check", "rules", str(RULES))
    assert status == 0, said
    status, said = promtool("test", "rules", str(RULE_TESTS))
    assert status == 0, said


def test_prometheus_understands_what_the_dashboard_asks(promtool, tmp_path):
    asked = [query for query in queries_of_dashboard() if not query.startswith("label_values(")]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(asked)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    status, said = promtool("check", "rules", str(file))
    assert status == 0, said


async def test_prometheus_finds_nothing_to_object_to_in_what_programs_show(promtool):
    for name, text in (await expositions()).items():
        status, said = promtool("check", "metrics", given=text)
        assert (status, said) == (0, ""), name
