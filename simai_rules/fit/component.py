"""The component config that a fit gives, as a file to be merged into an experiment's config.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simai_rules.files import replacing
from simai_rules.fit.distribution import Fit
from simai_rules.fit.log import Log

CONFIG, HISTOGRAM = "component.yaml", "iteration_times.csv"
# So many seconds are enough for a product of matrices of this size many times over, on any core.
_SIZES = ((0.01, 256), (0.001, 64), (0.0001, 16), (0.0, 4))


def component_config(log: Log, chosen: Fit, component: str) -> dict[str, Any]:
    """Return the keys of a config.yaml that make `component` (simulation or training) take the times of `log`."""
    run_time = chosen.config(HISTOGRAM)
    if component == "training":
        return {"training": {"run_time": run_time}}
    size = next(size for least, size in _SIZES if chosen.median >= least)

    def work(seconds: Any) -> dict[str, Any]:
        return {"name": "MatMulSimple2D", "data_size": [size, size], "run_time": seconds}

    simulation: dict[str, Any] = {}
    if log.start > 0:
        simulation["start"] = {"kernels": [work(float(f"{log.start:.6g}"))]}
    simulation["kernels"] = [work(run_time)]
    if log.written:
        output = {"name": "WriteNonMPI", "folder": ".", "dtype": "float64", "data_size": [max(1, log.written // 8)]}
        simulation["kernels"].append(output)
    return {"simulation": simulation}


def write_component(folder: Path, log: Log, chosen: Fit, component: str) -> list[Path]:
    """Write the config, and the histogram beside it, into `folder`; return the files."""
    import yaml

    files = []
    if chosen.kind == "histogram":
        pairs = zip(chosen.values, chosen.shares, strict=True)
        lines = "".join(f"{value!r},{share!r}\n" for value, share in pairs)
        files.append(_written(folder / HISTOGRAM, f"value,probability\n{lines}"))
    comment = f"# {log.path.name}: {log.kind}, {len(log.seconds)} iterations, {chosen.kind} ({chosen.describe()})\n"
    if chosen.kind == "histogram":
        comment += f"# {HISTOGRAM} has to lie beside the config file that names it.\n"
    content = yaml.safe_dump(component_config(log, chosen, component), sort_keys=False, default_flow_style=None)
    return [_written(folder / CONFIG, comment + content), *files]


def _written(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text)
    return path
