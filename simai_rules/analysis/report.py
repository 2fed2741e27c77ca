"""The report: one HTML file that opens from disk, with figures, tables and the answer inside it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from simai_rules import __version__
from simai_rules.analysis.environment import read_environment
from simai_rules.analysis.figures.draw import draw_all
from simai_rules.analysis.figures.style import Drawing, drawing_style
from simai_rules.analysis.grid import Grid, following_axes, grids
from simai_rules.analysis.kernels import kernel_table
from simai_rules.analysis.recommendation import Verdict, headline, verdicts
from simai_rules.analysis.results import PointResult, completeness
from simai_rules.analysis.units import number_text, size_text, time_text
from simai_rules.analysis.warnings import find_warnings
from simai_rules.files import replacing
from simai_rules.resources import shipped

_OPERATIONS = (
    *("write", "read", "wait", "poll", "delete", "publish", "take", "compute", "barrier", "agree"),
    *("checkpoint", "train", "infer", "iteration", "start", "init"),
)


def write_report(
    results: Sequence[PointResult],
    path: Path,
    *,
    config_text: str = "",
    others: int = 0,
    drawings: Sequence[Drawing] = (),
) -> None:
    """Write the report of `results` to `path`, atomically.

    `config_text` is the experiment's config file where it is at hand; `others` the number of points found that are not
    part of it; `drawings` the figures where they have been drawn already.

    Raises UserError where the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    template = shipped("templates/report.html.j2")
    loader = FileSystemLoader(template.parent)
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = jinja.get_template(template.name).render(
        _content(results, config_text, others, drawings or draw_all(results))
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _content(
    results: Sequence[PointResult], config_text: str, others: int, drawings: Sequence[Drawing]
) -> dict[str, Any]:
    environment = read_environment(results)
    settings = [{"label": grid.label, **_answer(grid)} for grid in grids(results)]
    names = {str(result.settings["experiment"]) for result in results if "experiment" in result.settings}
    return {
        "experiment": ", ".join(sorted(names)) or "experiment",
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": __version__,
        "settings": settings,
        "several_settings": len(settings) > 1,
        "size_text": size_text,
        "time_text": time_text,
        "number_text": number_text,
        "completeness": completeness(results),
        "incomplete": [result for result in results if result.state != "done"],
        "warnings": find_warnings(results, environment, others),
        "figures": [_figure(each) for each in drawings if not _of_kernels(each)],
        "kernel_figures": [_figure(each) for each in drawings if _of_kernels(each)],
        "kernels": kernel_table(results),
        "table": table_rows(results),
        "following": following_axes(results),
        "axes": _axes(results),
        "common_settings": _as_yaml(_common([result.settings for result in results if result.settings])),
        "config_text": config_text,
        "environment": environment,
    }


def _answer(grid: Grid) -> dict[str, Any]:
    found = verdicts(grid)
    return {
        "headline": headline(found),
        "backends": grid.backends,
        "verdicts": [_verdict_row(verdict) for verdict in found],
    }


def _verdict_row(verdict: Verdict) -> dict[str, Any]:
    return {
        "size": size_text(verdict.size),
        "best": verdict.level if len(verdict.ranking) > 1 else [],
        "text": verdict.text,
        "times": {
            name: (
                time_text(estimate.value),
                f"{time_text(estimate.low)} to {time_text(estimate.high)}",
                time_text(verdict.asides[name]),
            )
            for name, estimate in verdict.ranking
        },
    }


def _of_kernels(drawing: Drawing) -> bool:
    return drawing.name.split("-")[0] == "kernels"


def _figure(drawing: Drawing) -> dict[str, Any]:
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "svg": svg_text(drawing),
        "width": _width(drawing),
    }


def svg_text(drawing: Drawing) -> str:
    """Return a figure as an SVG element whose ids no other figure of the page has."""
    buffer = io.StringIO()
    with drawing_style(drawing.name):
        drawing.figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    prefix = f"{drawing.name}-"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)


def _width(drawing: Drawing) -> float:
    """Return a width in rem at which the fonts of all figures are of the same size on the page."""
    return float(round(6.3 * drawing.figure.get_figwidth(), 1))


def table_rows(results: Sequence[PointResult]) -> list[dict[str, Any]]:
    """Return one row per setting, size, backend, operation, component, kernel, variant and status.

    Its statistics are medians over the repeats, the counts are sums, the maximum is the greatest.
    """
    rows = []
    for grid in grids(results):
        for (size, backend), cell in sorted(grid.cells.items()):
            groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
            for row in (row for result in cell if result.state == "done" for row in result.rows if row["count"]):
                key = tuple(str(row[name]) for name in ("operation", "component", "kernel", "variant", "status"))
                groups.setdefault(key, []).append(row)
            for key, members in sorted(groups.items(), key=lambda item: (_place(item[0][0]), item[0])):
                rows.append(_table_row(grid.label, size, backend, key, members))
    return rows


def _place(operation: str) -> int:
    return _OPERATIONS.index(operation) if operation in _OPERATIONS else len(_OPERATIONS)


def _table_row(
    label: str, size: int, backend: str, key: tuple[str, ...], members: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    operation, component, kernel, variant, status = key
    detail = ", ".join(part for part in (kernel, variant) if part)

    def over_repeats(name: str) -> float | None:
        values = [float(row[name]) for row in members if row[name] is not None]
        return median(values) if values else None

    names = ("median_s", "p95_s", "p99_s", "mean_s", "max_rank_mean_s", "throughput_MBps")
    return {
        "setting": label,
        "size": size,
        "backend": backend,
        "component": component,
        "operation": f"{operation} ({detail})" if detail else operation,
        "status": status,
        "transfer": (component, operation) in (("simulation", "write"), ("training", "read")),
        "repeats": len(members),
        "count": sum(row["count"] for row in members),
        "max_s": max(row["max_s"] for row in members),
        **{name: over_repeats(name) for name in names},
    }


def _axes(results: Sequence[PointResult]) -> dict[str, str]:
    """Return every axis with the values it takes."""
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.axes.items():
            values.setdefault(name, {})[json.dumps(value)] = None
    return {name: ", ".join(found).replace('"', "") for name, found in values.items()}


_DIFFERENT = object()


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all settings agree on, nested mappings merged key by key."""
    if not settings:
        return {}
    merged = {}
    for name, value in settings[0].items():
        others = [each.get(name, _DIFFERENT) for each in settings]
        if isinstance(value, dict) and all(isinstance(other, dict) for other in others):
            inner = _common([other for other in others if isinstance(other, dict)])
            if inner:
                merged[name] = inner
        elif all(other == value for other in others):
            merged[name] = value
    return merged


def _as_yaml(settings: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(dict(settings), sort_keys=True, default_flow_style=None, width=100)) if settings else ""
