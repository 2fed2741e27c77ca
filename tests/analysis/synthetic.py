"""Results of an experiment that never ran: written by the real Recorder and store, with plausible timings."""

import json
from pathlib import Path

import numpy as np

from simai_rules.events.capsule import collect, software
from simai_rules.events.recorder import Recorder
from simai_rules.events.store import write_events

ELEMENTS = (10_000, 100_000, 1_000_000, 4_000_000, 16_000_000)
# seconds of latency, bytes per second
BACKENDS = {"filesystem": (150e-6, 1.6e9), "node-local": (60e-6, 4.0e9), "redis": (110e-6, 2.4e9)}


def point_path(backend="redis", elements=1_000_000, repeat=0, nodes=1, **axes):
    further = "".join(f"{name}~{value}/" for name, value in axes.items())
    return f"backend~{backend}/elements~{elements}/nodes~{nodes}/{further}repeat~{repeat}"


def settings(backend="redis", elements=1_000_000, repeat=0, nodes=1, **axes):
    return {
        "format": 1,
        "experiment": "synthetic",
        "path": point_path(backend, elements, repeat, nodes, **axes),
        "backend": backend,
        "elements": elements,
        "dtype": "float32",
        "nodes": nodes,
        "repeat": repeat,
        "warmup": 1,
        "axes": {"backend": backend, "elements": elements, "repeat": repeat, **axes},
        "simulation": {"write_every": 10, "kernels": [{"name": "MatMulSimple2D", "run_time": 0.002}]},
        "training": {"iterations": 50, "read_every": 5},
    }


class OtherRank:
    """Stands for the communicator of rank 0, so that one process writes the events of several ranks."""

    def __init__(self, recorders):
        self.recorders = recorders

    def Get_rank(self):  # noqa: N802 - mpi4py's name
        return 0

    def Get_size(self):  # noqa: N802 - mpi4py's name
        return len(self.recorders)

    def gather(self, mine):
        return [mine, *([each.host, each.clock_offset_ns] for each in self.recorders[1:])]

    def recv(self, source, tag):
        from simai_rules.events.store import _table, _to_bytes

        return _to_bytes(_table(self.recorders[source]))


def make_point(root: Path, *, ranks=2, snapshots=30, write_every=10, seed=None, slowed=1.0, **axes) -> Path:
    """Write one finished point and return its folder; `slowed` multiplies the time of its kernel's calls."""
    point = settings(**axes)
    folder = root / point["path"]
    folder.mkdir(parents=True)
    (folder / "point.json").write_text(json.dumps(point))
    random = np.random.default_rng(sum(point["path"].encode()) if seed is None else seed)
    latency, bandwidth = BACKENDS[point["backend"]]
    latency, bandwidth = latency * random.normal(1, 0.04), bandwidth * random.normal(1, 0.04)
    nbytes = point["elements"] * 4 + 200

    def took(scale=1.0):
        return int(1e9 * scale * (latency + nbytes / bandwidth) * random.lognormal(0, 0.15))

    sims = [Recorder("simulation", rank, "node0", rank) for rank in range(ranks)]
    trains = [Recorder("training", rank, "node0", rank) for rank in range(ranks)]
    for sim, train in zip(sims, trains, strict=True):
        now = 5_000_000_000
        sim.record("init", now, 200_000_000)
        now += 200_000_000
        ready = []
        for n in range(snapshots):
            sim.phase = "warmup" if n == 0 else "measured"
            for i in range(write_every):
                work = int(2e6 * random.normal(1, 0.01))
                sim.record(
                    "compute", now, work, kernel="MatMulSimple2D", iteration=n * write_every + i,
                    calls=100, work_ns=int(0.9 * work * slowed), flops=100 * 2 * 64**3, nbytes=100 * 3 * 64**2 * 4,
                )  # fmt: skip
                look = int(20e3 * random.lognormal(0, 0.2))
                sim.record("poll", now + work, look, key="stop/0", found=False)
                now += work + look
            wrote = took()
            sim.record(
                "write", now, wrote, step=n, key=f"snapshot/{sim.rank}/{n}", nbytes=nbytes,
                serialize_ns=wrote // 50, transport_ns=wrote - wrote // 50, replaced=False,
            )  # fmt: skip
            now += wrote
            ready.append(now)
        now = 5_000_000_000
        train.record("init", now, 220_000_000)
        now, n, iteration = now + 220_000_000, 0, 0
        while n < snapshots:
            train.record("poll", now, 30_000, key=f"snapshot/{sim.rank}/{n}", found=ready[n] <= now)
            now += 30_000
            while n < snapshots and (n == 0 or ready[n] <= now):
                train.phase = "warmup" if n == 0 else "measured"
                read, wait = took(0.8), max(0, ready[n] - now)
                train.record(
                    "read", now, read + wait, step=n, key=f"snapshot/{sim.rank}/{n}", nbytes=nbytes,
                    wait_ns=wait, transport_ns=read - read // 40, deserialize_ns=read // 40,
                )  # fmt: skip
                now += read + wait
                train.record("delete", now, 40_000, key=f"snapshot/{sim.rank}/{n}")
                now, n = now + 40_000, n + 1
            for _ in range(5):
                work = int(4e6 * random.normal(1, 0.02))
                train.record("train", now, work, loss=1.0 / (iteration + 1), iteration=iteration)
                now, iteration = now + work, iteration + 1
    for recorders in (sims, trains):
        first = recorders[0]
        metadata = {"run_id": point["path"], "point": point["path"]}
        write_events(first, OtherRank(recorders), folder / f"{first.component}.parquet", metadata)
        cores = 0 if first.component == "simulation" else ranks
        each = [{**collect(r, r, "node0"), "affinity": [cores + r]} for r in range(ranks)]
        nodes = {"node0": each[0]["node"]}
        each = [{name: value for name, value in one.items() if name != "node"} for one in each]
        capsule = {"format": 1, "component": first.component, **metadata, "software": software()}
        capsule |= {"nodes": nodes, "ranks": each}
        (folder / f"{first.component}.capsule.json").write_text(json.dumps(capsule))
    return folder


def add_inference(folder: Path, iterations=20) -> None:
    """Give a finished point of two components a third one: a rank that infers and takes weights every five times."""
    point = json.loads((folder / "point.json").read_text()) | {"inference": {"ranks_per_node": 1, "run_time": 0.003}}
    (folder / "point.json").write_text(json.dumps(point))
    recorder = Recorder("inference", 0, "node0")
    now = 5_000_000_000
    recorder.record("init", now, 100_000_000)
    now += 100_000_000
    recorder.phase = "measured"
    for iteration in range(iterations):
        recorder.record("infer", now, 3_000_000, iteration=iteration, calls=7)
        now += 3_000_000
        if iteration % 5 == 0:
            recorder.record("take", now, 400_000, step=iteration, nbytes=5000, transport_ns=300_000)
            now += 400_000
        recorder.record("poll", now, 100_000, iteration=iteration, found=False)
        now += 100_000
    metadata = {"run_id": point["path"], "point": point["path"]}
    write_events(recorder, None, folder / "inference.parquet", metadata)
    ranks = [{name: value for name, value in collect(0, 0, "node0").items() if name != "node"} | {"affinity": [7]}]
    capsule = {"component": "inference", "software": software(), "nodes": {}, "ranks": ranks}
    (folder / "inference.capsule.json").write_text(json.dumps(capsule))


def fail(folder: Path, *causes: tuple[str, str, float]) -> None:
    """Make a point a failed one, with (component, reason, time) of each failure."""
    (folder / "failures").mkdir(parents=True, exist_ok=True)
    for component, reason, time in causes:
        note = {"component": component, "reason": reason, "time": time}
        (folder / "failures" / f"{component}.json").write_text(json.dumps(note))


def make_experiment(root: Path, elements=ELEMENTS, backends=tuple(BACKENDS), repeats=3, **more) -> list[str]:
    """Write a whole experiment without failures and return the paths of its points."""
    paths = []
    for backend in backends:
        for size in elements:
            for repeat in range(repeats):
                folder = make_point(root, backend=backend, elements=size, repeat=repeat, **more)
                paths.append(folder.relative_to(root).as_posix())
    return paths
