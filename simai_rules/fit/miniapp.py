"""The mini-app that a fit describes, run alone: `python -m simai_rules.fit.miniapp component.yaml --steps 100`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from simai_rules.errors import UserError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_START_S = 120.0


class Ran(NamedTuple):
    """What a mini-app did: seconds of each iteration, and the share of its time that it had a core for itself."""

    seconds: list[float]
    share: float


def run_miniapp(config: Path, steps: int, seed: int, expected_s: float) -> Ran:
    """Run `steps` iterations of the component in a process of its own, with one thread.

    It may take three times `expected_s` seconds, and two minutes to start. Raises UserError where it fails.
    """
    command = [sys.executable, "-m", "simai_rules.fit.miniapp", str(config), "--steps", str(steps), "--seed", str(seed)]
    environment = os.environ | dict.fromkeys(_THREADS, "1")
    limit = _START_S + 3 * expected_s
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"The mini-app of {config} was not done after {limit:.0f} s. Give fewer --steps.") from None
    if done.returncode:
        raise UserError(f"The mini-app of {config} failed (--no-check leaves it out):\n{done.stderr.strip()}")
    return Ran(**json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Run the component of a config file and print the seconds of its iterations as JSON."""
    parser = argparse.ArgumentParser(prog="python -m simai_rules.fit.miniapp", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        content = _resolved(args.config)
        run = _training if "training" in content else _simulation
        work = run(content, args.seed)
        wall, core = time.perf_counter(), time.process_time()
        seconds = work(args.steps)
        share = (time.process_time() - core) / (time.perf_counter() - wall)
        print(json.dumps({"seconds": seconds, "share": share}))  # noqa: T201 - this is its output
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _resolved(path: Path) -> dict[str, Any]:
    """Return the content of a component's config, histograms read."""
    from simai_rules.config.distributions import Histogram
    from simai_rules.config.expand import inline_histograms
    from simai_rules.config.histogram import read_histogram
    from simai_rules.config.messages import Problems
    from simai_rules.config.yaml_file import read_mapping

    @cache
    def read(name: str) -> Histogram:
        return read_histogram(path.parent / name)

    problems = Problems(str(path))
    content: dict[str, Any] = inline_histograms(read_mapping(path), (), read, problems)
    problems.raise_if_any()
    return content


def _simulation(content: dict[str, Any], seed: int) -> Callable[[int], list[float]]:
    from simai_rules.components.simulation import Simulation

    simulation = Simulation("mini-app", seed=seed)
    simulation.init_from_dict(content["simulation"])
    simulation.begin()

    def work(steps: int) -> list[float]:
        with simulation:
            return simulation.run(steps)

    return work


def _training(content: dict[str, Any], seed: int) -> Callable[[int], list[float]]:
    from simai_rules.components.ai import AI
    from simai_rules.config.messages import checked
    from simai_rules.config.training import TrainingConfig
    from simai_rules.kernels.sampling import Sampler, generator

    config = checked("training", TrainingConfig, content["training"])
    draw = Sampler(config.run_time or 0.0, generator(seed, 0, 0, "training amounts"))
    ai = AI("mini-app", model=config.model, seed=seed)
    ai.data.add_synthetic()
    ai.prepare(draw.mean())

    def work(steps: int) -> list[float]:
        with ai:
            return [ai.train(draw())[0] for _ in range(steps)]

    return work


if __name__ == "__main__":
    sys.exit(main())
