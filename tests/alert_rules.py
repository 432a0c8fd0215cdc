"""What `deploy/` tells Prometheus and Grafana, for the tests that compare and run it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "tapeline.rules.yml"
RULES_TESTS = sorted(PROMETHEUS.glob("*.test.yml"))
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "tapeline.json"


def alerts() -> list[dict[str, Any]]:
    """Return the alerts in their order."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that show something, no rows."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Return the dashboard's queries, with Grafana's variables in them."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def names_in(expression: str) -> set[str]:
    """Return the names of the series that an expression asks for."""
    return set(re.findall(r"\b(?:tapeline_\w+|ALERTS|up)\b", expression))


def is_of_the_stream(query: str) -> bool:
    """Return whether a query asks for what a stream measures."""
    return all(
        name.startswith(("tapeline_stream_", "tapeline_finalize_")) for name in names_in(query)
    )
