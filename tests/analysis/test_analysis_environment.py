import json

from synthetic import add_inference, fail, make_point, settings

from simai_rules.analysis.environment import read_environment
from simai_rules.analysis.results import load
from simai_rules.analysis.warnings import find_warnings


def change(folder, component, **changes):
    file = folder / f"{component}.capsule.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def found(root, others=0, expected=None):
    results = load(root, expected)
    environment = read_environment(results)
    return environment, " ".join(find_warnings(results, environment, others))


def test_alike_points_have_a_common_environment_and_enough_repeats_no_warning(tmp_path):
    for repeat in range(6):
        make_point(tmp_path, repeat=repeat)
    environment, warnings = found(tmp_path)
    assert environment.different == {}
    assert environment.common["nodes"] == "node0"
    assert environment.common["simulation: cores of each rank"] == "rank 0: 0; rank 1: 1"
    assert environment.common["training: cores of each rank"] == "rank 0: 2; rank 1: 3"
    assert warnings == ""


def test_ranks_on_the_same_cores_are_warned_of(tmp_path):
    folder = make_point(tmp_path, snapshots=30)
    ranks = [{"rank": rank, "host": "node0", "affinity": [rank, 7]} for rank in range(2)]
    change(folder, "training", ranks=ranks)
    environment, warnings = found(tmp_path)
    assert len(environment.shared_cores) == 1
    assert "Ranks shared cores in every point" in warnings


def test_the_capsule_of_an_inference_is_read_and_missed(tmp_path):
    folder = make_point(tmp_path)
    add_inference(folder)
    assert read_environment(load(tmp_path)).common["inference: cores of each rank"] == "rank 0: 7"
    (folder / "inference.capsule.json").unlink()
    assert len(read_environment(load(tmp_path)).without) == 1


def test_the_same_core_numbers_on_two_hosts_are_not_shared(tmp_path):
    folder = make_point(tmp_path)
    change(folder, "simulation", ranks=[{"rank": r, "host": f"host{r}", "affinity": [0]} for r in range(2)])
    change(folder, "training", ranks=[{"rank": r, "host": f"host{r}", "affinity": [1]} for r in range(2)])
    assert read_environment(load(tmp_path)).shared_cores == []


def test_ranks_that_did_not_run_where_they_were_placed_are_warned_of(tmp_path):
    folder = make_point(tmp_path, snapshots=30)
    seen = {"binding": {"observed": {"gpus": {"ZE_AFFINITY_MASK": "3.0"}}}}
    ranks = [{"rank": rank, "host": "node0", "affinity": [10 + rank], **seen} for rank in range(2)]
    change(folder, "training", ranks=ranks, differs=["rank 1 on node0: placed on cores [5], runs on [11]"])
    environment, warnings = found(tmp_path)
    assert (
        "In 1 point ranks did not run on the cores or GPUs that they were placed on, such as training rank 1"
        in warnings
    )
    assert environment.common["training: GPUs of each rank"] == (
        "rank 0: ZE_AFFINITY_MASK=3.0; rank 1: ZE_AFFINITY_MASK=3.0"
    )


def test_differences_between_points_are_pointed_out(tmp_path):
    make_point(tmp_path)
    folder = make_point(tmp_path, repeat=1)
    change(folder, "training", nodes={"node0": {"cpu": "Other CPU", "cores": 4, "memory_bytes": 2**33, "kernel": "6"}})
    environment, warnings = found(tmp_path)
    assert environment.different["node"]["Other CPU, 4 cores, 8 GiB"] == [folder.relative_to(tmp_path).as_posix()]
    assert "same ground" in warnings


def test_few_repeats_few_reads_failures_and_others_are_warned_of(tmp_path):
    make_point(tmp_path, snapshots=5)
    fail(make_point(tmp_path, repeat=1, snapshots=5), ("server", "x", 1.0))
    (make_point(tmp_path, repeat=2, snapshots=5) / "training.parquet").unlink()
    _, warnings = found(tmp_path, others=2)
    assert "of 3 points, 1 failed and 1 not there yet" in warnings
    assert "1 repeat only" in warnings
    assert "fewer than 20 reads" in warnings
    assert "2 points in this folder, not part of the config" in warnings


def test_points_without_capsule_or_measured_exchange_or_of_an_older_config_are_warned_of(tmp_path):
    folder = make_point(tmp_path, snapshots=1)
    (folder / "training.capsule.json").unlink()
    wanted = {folder.relative_to(tmp_path).as_posix(): {**settings(), "warmup": 5}}
    _, warnings = found(tmp_path, expected=wanted)
    assert "Without a capsule: 1 point" in warnings
    assert "exchanged nothing after the warm-up" in warnings
    assert "another config than today's" in warnings


def test_snapshots_that_a_full_queue_dropped_are_named(tmp_path):
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import write_events

    folder = make_point(tmp_path, snapshots=5)
    recorder = Recorder("simulation", 0, "node0")
    recorder.phase = "measured"
    for status in ("ok", "discarded", "discarded"):
        recorder.record("write", 0, 1, nbytes=10, status=status)
    write_events(recorder, None, folder / "simulation.parquet", {"run_id": folder.relative_to(tmp_path).as_posix()})
    _, warnings = found(tmp_path)
    assert "2 snapshots found a full queue and were dropped (discarded; redis)" in warnings


def test_stale_and_torn_reads_are_warned_of_even_in_the_warm_up(tmp_path):
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import write_events

    folder = make_point(tmp_path, snapshots=5)
    recorder = Recorder("training", 0, "node0")
    recorder.record("read", 0, 1, status="stale")
    recorder.phase = "measured"
    recorder.record("read", 0, 1, status="torn")
    run = folder.relative_to(tmp_path).as_posix()
    write_events(recorder, None, folder / "training.parquet", {"run_id": run})
    _, warnings = found(tmp_path)
    assert "1 read returned the data of another rank or step (stale; redis)" in warnings
    assert "1 read returned damaged data (torn; redis)" in warnings
