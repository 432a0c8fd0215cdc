"""docs/benchmarks.md and its plots, from the newest results of each scenario."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.results import FOLDER
from bench.stats import Summary

_DOCS: Final = Path(__file__).parent.parent / "docs"
_PLOT: Final = "images/benchmarks.svg"
_PEER: Final = "plain"
_Run = dict[str, Any]
_Result = dict[str, Any]
_COSTS: Final = {
    "trades/s": "per_s",
    "job, CPU-s a million": "job_cpu_s_per_million",
    "Cassandra, CPU-s a million": "cassandra_cpu_s_per_million",
}
_MEMORY: Final = "memory of the job, MB"
_TOTALS: Final[dict[str, tuple[str, ...]]] = {
    "until every trade is stored, s": ("ingested_s",),
    "until every bar is final, s": ("finished_s",),
    _MEMORY: ("memory_mb", "job"),
}
_WARM_FROM: Final = 2_000_000
"""A load of fewer messages has no part to speak of after the first million."""


def write_report() -> Path:
    """Write the page and its plot; return the page.

    Raises:
        SystemExit: nothing has been measured yet.
    """
    newest = _newest_results()
    if not newest:
        message = "There are no results yet: run `python -m bench backlog` or another scenario."
        raise SystemExit(message)
    sections = [line for result in newest for line in _SECTIONS[result["scenario"]](result)]
    backlogs = [result for result in newest if result["scenario"] == "backlog"]
    picture = [f"![Rates and costs beside a plain consumer]({_PLOT})", ""] if backlogs else []
    if backlogs:
        _draw(backlogs)
    page = _DOCS / "benchmarks.md"
    page.write_text("\n".join([*_head(newest[-1]), *picture, *sections]), encoding="utf-8")
    return page


def _newest_results() -> list[_Result]:
    """Return the newest result of each scenario and load, in the order of the sections."""
    found: dict[tuple[str, str], _Result] = {}
    for path in sorted(FOLDER.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["scenario"] in _SECTIONS:
            found[result["scenario"], str(result["options"].get("load", ""))] = result
    order = list(_SECTIONS)
    return sorted(found.values(), key=lambda result: order.index(result["scenario"]))


def _head(result: _Result) -> list[str]:
    machine, versions = result["machine"], result["versions"]
    names = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return [
        "# Benchmarks",
        "",
        "Written by `python -m bench report` from what `make bench` measured: fresh Kafka and",
        "Cassandra for each, contestants in turn, every output checked against the truth. `plain`",
        "is a Python consumer of a few hundred lines on confluent-kafka, fastavro and the C++",
        "driver acsylla, with bars in memory, which starts from nothing after a crash. Compare",
        "ratios, not absolute figures: machines differ by a factor of two.",
        "",
        (
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"{machine['system']}, Python {machine['python']}; {names}."
        ),
        "",
    ]


def _backlog(result: _Result) -> list[str]:
    by_name = _by_contestant(result)
    lines = [f"## A backlog: {result['options']['load']}", "", *_told(result)]
    since = "second million" if _is_long(result) else "start of each process"
    lines += [f"Medians of the rounds, with lowest and highest; costs from the {since} on.", ""]
    table = [["figure", *by_name, *([f"ratio to {_PEER}"] if _PEER in by_name else [])]]
    for figure, place in _figures(result).items():
        each = {name: _summary(runs, place) for name, runs in by_name.items()}
        ratio = [f"{each['tapeline'].median / each[_PEER].median:.2f}"] if _PEER in each else []
        table.append([figure, *map(_text, each.values()), *ratio])
    return [*lines, *_table(table)]


def _is_long(result: _Result) -> bool:
    messages: int = result["runs"][0]["messages"]
    return messages >= _WARM_FROM


def _figures(result: _Result) -> dict[str, tuple[str, ...]]:
    """Return each figure of a backlog and where a run has it."""
    part = "warm" if _is_long(result) else "all"
    return {name: (part, place) for name, place in _COSTS.items()} | _TOTALS


def _live(result: _Result) -> list[str]:
    behind = result["options"]["behind"]
    while_reading = f", while a backlog of {behind:,} trades is read" if behind else ""
    lines = [f"## Live{while_reading}", "", *_told(result)]
    table = [["contestant", "trades/s", "to a listener", "to a row in gold", "cores", "memory"]]
    for run in result["runs"]:
        cores = ", ".join(f"{name} {used:.2f}" for name, used in run["cores"].items())
        memory = f"{sum(run['memory_mb'].values()):,.0f} MB"
        table.append(
            [
                run["contestant"],
                f"{run['rate']:g}",
                _delays(run.get("stream")),
                _delays(run.get("gold")),
                cores,
                memory,
            ]
        )
    return [*lines, "Delays are from the frame at the socket, p50 and p99.", "", *_table(table)]


def _producer(result: _Result) -> list[str]:
    table = [["trades a frame", "trades/s", "CPU, µs a trade", "memory, MB"]]
    table += [
        [
            f"{run['mean_frame']:g}",
            f"{run['per_s']:,.0f}",
            f"{run['cpu_us_per_trade']:.1f}",
            f"{run['memory_mb']:.0f}",
        ]
        for run in result["runs"]
    ]
    return ["## The producer: frames until acknowledged", "", *_told(result), *_table(table)]


def _demo(result: _Result) -> list[str]:
    lines = ["## The demo", "", *_told(result)]
    for run in result["runs"]:
        for name in ("first_start", "second_start"):
            times = ", ".join(f"{what} {s:.1f} s" for what, s in run[name].items())
            lines.append(f"- {name.replace('_', ' ')}: {times}")
        lines.append(
            f"- memory of everything after {run['minutes']:g} min: "
            f"{run['memory_shared_mb']:,.0f} MB (shared pages counted once)"
        )
    return [*lines, ""]


def _steps(result: _Result) -> list[str]:
    last = max(run["run"] for run in result["runs"])
    table = [["step", "Spark, CPU-s a million", "Cassandra, CPU-s a million"]]
    table += [
        [
            run["step"],
            f"{run['spark_cpu_s_per_million']:.1f}",
            f"{run['cassandra_cpu_s_per_million']:.1f}",
        ]
        for run in result["runs"]
        if run["run"] == last and not run["missing"]
    ]
    return ["## Steps of one large batch in a warm JVM", "", *_told(result), *_table(table)]


def _api(result: _Result) -> list[str]:
    table = [["answer", "bars", "requests/s", "p99", "reads/s of the driver alone"]]
    table += [
        [
            run["what"],
            str(run["rows"]),
            f"{run['per_s']:.0f}",
            run["p99"],
            f"{run['driver_per_s']:.0f}",
        ]
        for run in result["runs"]
    ]
    return ["## The API", "", *_told(result), *_table(table)]


_SECTIONS: Final[dict[str, Callable[[_Result], list[str]]]] = {
    "live": _live,
    "behind": _live,
    "backlog": _backlog,
    "producer": _producer,
    "demo": _demo,
    "steps": _steps,
    "api": _api,
}


def _told(result: _Result) -> Iterator[str]:
    """Yield when and how it was measured."""
    options = {k: v for k, v in result["options"].items() if v not in ([], None) and k != "load"}
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items())
    yield f"{result['measured_at'][:10]}, {result['versions']['commit']}; {told}."
    yield ""


def _by_contestant(result: _Result) -> dict[str, list[_Run]]:
    found: dict[str, list[_Run]] = {}
    for run in result["runs"]:
        found.setdefault(run["contestant"], []).append(run)
    return found


def _summary(runs: Sequence[_Run], place: Sequence[str]) -> Summary:
    return Summary.of([reduce(getitem, place, run) for run in runs])


def _text(summary: Summary) -> str:
    spread = f" ({summary.low:,.0f} to {summary.high:,.0f})" if summary.rounds > 1 else ""
    return f"{summary.median:,.0f}{spread}"


def _delays(delays: dict[str, float] | None) -> str:
    return "" if delays is None else f"{delays['p50_s']:.3f} s, {delays['p99_s']:.3f} s"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""]


def _draw(backlogs: Sequence[_Result]) -> None:
    """Draw each figure of the backlogs as bars, a group a load; readable on light and dark."""
    grey = "#808890"
    mpl.rcParams.update(
        {
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), grey),
            **dict.fromkeys(("xtick.color", "ytick.color"), grey),
            "svg.hashsalt": "tapeline",
        }
    )
    names = [*_COSTS, _MEMORY]
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 3))
    for axis, name in zip(axes, names, strict=True):
        labels, heights, colors = [], [], []
        for result in backlogs:
            place = _figures(result)[name]
            for contestant, runs in _by_contestant(result).items():
                load = result["options"]["load"].split(" of ")[1].split(",")[0]
                labels.append(f"{contestant}\n{load}")
                heights.append(_summary(runs, place).median)
                colors.append("#2f7ed8" if contestant == "tapeline" else grey)
        axis.bar(labels, heights, color=colors)
        axis.set_title(name, fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(_DOCS / _PLOT, transparent=True, metadata={"Date": None})
    plt.close(figure)
