"""Alerts, runbook, docs and dashboard name the same things, and only metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import Histogram

from tapeline.local.service import LOOPBACK
from tapeline.program.metrics import API_METRICS, PROCESS_METRICS, PRODUCER_METRICS, STREAM_METRICS
from tapeline.program.settings import API_PORT, load_settings
from tests.alert_rules import DASHBOARD, PROMETHEUS, RULES_TESTS, alerts, names_in, panels, queries

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
RUNBOOK = (DOCS / "runbook.md").read_text(encoding="utf-8")
METRICS = [*PRODUCER_METRICS, *STREAM_METRICS, *API_METRICS, *PROCESS_METRICS]
OF_PROMETHEUS = {"up", "ALERTS"}
SERIES = OF_PROMETHEUS | {
    m.name + suffix
    for m in METRICS
    for suffix in (("_bucket", "_sum", "_count") if m.kind is Histogram else ("",))
}
LABELS = {"job", "instance", "part", "le", "alertname", "alertstate"}.union(
    *(m.labels for m in METRICS)
)
EACH_ALERT = pytest.mark.parametrize("alert", alerts(), ids=lambda a: a["alert"])
NAMES = [alert["alert"] for alert in alerts()]


def test_the_runbook_has_a_section_for_each_alert_in_the_same_order():
    assert re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE) == NAMES


@EACH_ALERT
def test_an_alert_says_how_bad_it_is_since_when_and_where_to_read_on(alert):
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert set(alert["labels"]) == {"severity"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    # GitHub's anchor of a heading of one word is the word in small letters.
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


@EACH_ALERT
def test_a_section_says_how_bad_it_is_what_to_do_and_when_it_is_over(alert):
    section = RUNBOOK.partition(f"## {alert['alert']}\n")[2].partition("\n## ")[0]

    assert section.lstrip().startswith(f"{alert['labels']['severity'].capitalize()}. ")
    said = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)
    assert said == ["For the bars.", "Look.", "Do.", "It is over"]


def test_the_docs_list_the_alerts_as_they_are():
    rows = re.findall(r"^\| \[(\w+)\]\((\S+)\) \| (\w+) \| ([\w ]+) \|", OPERATIONS, re.MULTILINE)

    assert rows == [
        (
            alert["alert"],
            alert["annotations"]["runbook_url"].removeprefix("docs/"),
            alert["labels"]["severity"],
            "at once" if alert["for"] == "0s" else alert["for"],
        )
        for alert in alerts()
    ]


def test_links_within_the_runbook_lead_somewhere():
    for file, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", RUNBOOK):
        page = (DOCS / file).read_text(encoding="utf-8") if file else RUNBOOK
        headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_the_runbook_names_only_metrics_that_there_are():
    assert names_in(RUNBOOK) <= SERIES | {"up"}


@EACH_ALERT
def test_an_alert_asks_for_metrics_and_labels_that_there_are(alert):
    assert names_in(alert["expr"]) <= SERIES
    texts = alert["annotations"]["summary"] + alert["annotations"]["description"]
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= LABELS


@pytest.mark.parametrize("query", queries())
def test_the_dashboard_asks_for_metrics_and_labels_that_there_are(query):
    assert names_in(query)
    assert names_in(query) <= SERIES
    assert set(re.findall(r"(\w+)\s*=~?\s*\"", query)) <= LABELS
    for grouping in re.findall(r"\bby \((.*?)\)", query):
        assert {label.strip() for label in grouping.split(",")} <= LABELS
    # Of one pipeline at a time, and counters never as they stand.
    assert all('job="$job"' in selector for selector in re.findall(r"\{(.*?)\}", query))
    assert not re.search(r"(?<!rate\()(?<!increase\()tapeline_\w+_total", query)


def test_every_metric_is_on_the_dashboard_but_those_that_need_no_graph():
    shown = set().union(*map(names_in, queries()))
    left_out = {m.name for m in METRICS if not any(n.startswith(m.name) for n in shown)}

    assert left_out == {
        "tapeline_producer_clock_wrong",  # the offset is there
        "tapeline_producer_frames_total",
        "tapeline_producer_newest_receipt_timestamp_seconds",
        "tapeline_producer_spool_holes_total",
        "tapeline_producer_symbols_without_slot",
        "tapeline_stream_poison_share",
        "tapeline_api_live_trades_held",
    }


def test_the_panels_of_the_dashboard_do_not_overlap_and_have_numbers_of_their_own():
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in dashboard["panels"]):
        assert place["x"] + place["w"] <= 24
        taken = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert cells.isdisjoint(taken)
        cells |= taken
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(panel["title"] for panel in panels())


def test_each_alert_fires_in_the_rules_own_test_and_nothing_does_when_all_is_well():
    groups = [
        g for f in RULES_TESTS for g in yaml.safe_load(f.read_text(encoding="utf-8"))["tests"]
    ]
    fired = {
        group["name"]: set(
            re.findall(
                r'alertname="(\w+)"', json.dumps(group["promql_expr_test"]).replace('\\"', '"')
            )
        )
        for group in groups
    }

    assert {name for alert in fired.values() for name in alert} == set(NAMES)
    assert all(alert == {name.partition(",")[0]} for name, alert in fired.items() if alert)
    assert [name for name, alert in fired.items() if not alert] == [
        "all is well, from the start of the processes on",
        "all is well, and the market is closed",
        "all is well, and one of the first ten messages was bad",
    ]


def test_prometheus_looks_where_the_commands_serve_their_metrics_by_default():
    settings = load_settings().metrics
    targets = yaml.safe_load((PROMETHEUS / "targets.yml").read_text(encoding="utf-8"))

    assert settings.host == LOOPBACK
    assert targets == [
        {"targets": [f"{LOOPBACK}:{settings.producer_port}"], "labels": {"part": "producer"}},
        {"targets": [f"{LOOPBACK}:{settings.stream_port}"], "labels": {"part": "stream"}},
        {"targets": [f"{LOOPBACK}:{API_PORT}"], "labels": {"part": "api"}},
    ]
