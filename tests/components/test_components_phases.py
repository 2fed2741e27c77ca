"""Mixes, start and checkpoints, imbalance, the barrier, and that one seed gives one sequence."""

import json
import sys
from collections import Counter

import pytest
from coupled_runs import finish, start_ranks

from simai_rules.components.phases import factor_of
from simai_rules.components.simulation import Simulation
from simai_rules.components.together import Together
from simai_rules.errors import UserError
from simai_rules.events.recorder import Recorder

AXPY, FFT = ({"name": name, "data_size": [8]} for name in ("AXPY", "FFT"))


def events(config, steps, **options):
    """The recorded (operation, kernel, iteration) of a simulation, without the iterations themselves."""
    recorder = Recorder("simulation", 0, "here")
    simulation = Simulation(recorder=recorder, **options)
    simulation.init_from_dict(config)
    simulation.run(steps)
    columns = recorder.columns()
    listed = zip(columns["operation"], columns["kernel"], columns["iteration"], strict=True)
    return [event for event in listed if event[0] != "iteration"]


def test_a_start_runs_once_and_a_checkpoint_after_every_so_many_iterations():
    config = {"kernels": [AXPY], "start": {"kernels": [FFT]}, "checkpoint": {"every": 2, "kernels": [FFT, AXPY]}}
    checkpoint = [("compute", "FFT"), ("compute", "AXPY"), ("checkpoint", "")]
    found = events(config, 4)
    assert found[:2] == [("compute", "FFT", -1), ("start", "", -1)]
    assert [event[:2] for event in found[2:]] == [*[("compute", "AXPY")] * 2, *checkpoint] * 2
    assert [iteration for *_, iteration in found[2:]] == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3]


def test_checkpoints_are_counted_over_calls_of_run():
    simulation = Simulation(recorder=(recorder := Recorder("simulation", 0, "here")))
    simulation.init_from_dict({"kernels": [AXPY], "checkpoint": {"every": 3, "kernels": [FFT]}})
    for _ in range(7):
        simulation.run()
    columns = recorder.columns()
    found = [i for name, i in zip(columns["operation"], columns["iteration"], strict=True) if name == "checkpoint"]
    assert found == [2, 5]


def test_a_mix_takes_its_branches_by_weight():
    mix = [{"weight": 3, "kernels": [AXPY]}, {"weight": 1, "kernels": [FFT, FFT]}]
    found = Counter(kernel for _, kernel, _ in events({"mix": mix}, 2000))
    assert found["FFT"] % 2 == 0
    assert 1380 < found["AXPY"] < 1620  # 1500, and more than six standard deviations
    assert found["AXPY"] + found["FFT"] / 2 == 2000


def test_a_mix_comes_after_the_kernels_that_are_in_every_iteration():
    config = {"kernels": [AXPY], "mix": [{"kernels": [FFT]}]}
    assert [kernel for _, kernel, _ in events(config, 3)] == ["AXPY", "FFT"] * 3


def test_one_seed_gives_one_sequence_and_all_ranks_take_the_same_branch():
    config = {"mix": [{"kernels": [AXPY]}, {"kernels": [FFT]}]}
    first = events(config, 60, seed=4)
    assert events(config, 60, seed=4) == first
    assert events(config, 60, seed=4, rank=3) == first
    assert events(config, 60, seed=5) != first
    assert events(config, 60, seed=4, repeat=1) != first


def test_drawn_times_and_counts_are_the_same_for_the_same_seed():
    def drawn(**options):
        simulation = Simulation(**options)
        simulation.add_kernel("AXPY", run_time={"normal": {"mean": 0.01, "std": 0.001}}, data_size=[8])
        return [simulation._phases.steps[0].draw() for _ in range(20)]

    assert drawn(seed=1) == drawn(seed=1)
    assert drawn(seed=1) != drawn(seed=1, rank=1)


def test_factors_of_ranks():
    assert [factor_of([1.0, 1.5], seed=0, repeat=0, rank=rank) for rank in range(4)] == [1, 1.5, 1, 1.5]
    spread = {"lognormal": {"median": 1, "sigma": 0.2}}
    simulation = Simulation()
    simulation.init_from_dict({"imbalance": spread})
    again = Simulation(rank=1)
    again.init_from_dict({"imbalance": spread})
    assert simulation._factor != again._factor
    same = Simulation()
    same.init_from_dict({"imbalance": spread})
    assert simulation._factor == same._factor


def test_a_factor_multiplies_times_and_counts():
    simulation = Simulation(rank=1)
    kernels = [{**AXPY, "run_time": 0.01}, {**FFT, "run_count": 2}]
    simulation.init_from_dict(
        {"kernels": kernels, "imbalance": [1, 1.5], "mix": [{"kernels": [{**AXPY, "run_time": 1}]}]}
    )
    assert [kernel.draw() for kernel in simulation._phases.all()] == pytest.approx([0.015, 3, 1.5])


@pytest.mark.parametrize(("factor", "calls"), [(1, [2, 2, 2, 2, 2]), (1.3, [3, 2, 3, 2, 3]), (0.2, [0, 1, 0, 1, 0])])
def test_parts_of_calls_are_made_up_for(factor, calls):
    recorder = Recorder("simulation", 0, "host")
    simulation = Simulation(recorder=recorder)
    simulation.init_from_dict({"kernels": [{**AXPY, "run_count": 2}], "imbalance": factor})
    simulation.run(nsteps=5)
    columns = recorder.columns()
    counted = [count for name, count in zip(columns["operation"], columns["calls"], strict=True) if name == "compute"]
    assert counted == calls


class NeverThere:
    """A communicator whose other rank does not come."""

    def Get_size(self):  # noqa: N802 - mpi4py's name
        return 2

    def Ibarrier(self):  # noqa: N802 - mpi4py's name
        return self

    def Test(self):  # noqa: N802 - mpi4py's name
        return False


def test_nobody_waits_at_the_barrier_for_ever():
    with pytest.raises(UserError, match=r"did not come within 0\.01 s"):
        Together(NeverThere(), 0.01).barrier()


def test_alone_there_is_nobody_to_wait_for():
    together = Together(None, 1)
    assert together.barrier().elapsed_ns >= 0
    assert [together.any(mine)[0] for mine in (True, False)] == [True, False]


BARRIER = """
import json
import time
from simai_rules.components.ranks import Ranks
from simai_rules.components.simulation import Simulation
from simai_rules.events.recorder import Recorder
ranks = Ranks.from_environment()
recorder = Recorder("simulation", ranks.rank, "here")
with Simulation(rank=ranks.rank, comm=ranks.comm, recorder=recorder) as simulation:
    kernels = [{"name": "AXPY", "data_size": [8], "run_time": 0.01}]
    simulation.init_from_dict({"kernels": kernels, "imbalance": [1, 3], "barrier": True})
    simulation.run(5)
    time.sleep(0.05 * ranks.rank)
    told = [simulation.any_rank(ranks.rank == 1), simulation.any_rank(False)]
every = ranks.comm.gather((recorder.columns(), simulation.collective, told))
if ranks.rank == 0:
    print(json.dumps(every))
ranks.finalize()
"""


def test_at_a_barrier_no_rank_goes_on_before_the_last_has_come():
    [(code, output)] = finish(start_ranks([sys.executable, "-c", BARRIER], 2))
    assert code == 0, output
    times = []
    for columns, collective, told in json.loads(next(line for line in output.splitlines() if line.startswith("["))):
        assert collective
        assert told == [True, False]
        rows = list(zip(columns["operation"], columns["start_ns"], columns["duration_ns"], strict=True))
        times.append({name: [(start, start + took) for op, start, took in rows if op == name] for name in
                      ("compute", "barrier", "iteration", "agree")})  # fmt: skip
    fast, slow = times
    assert len(fast["barrier"]) == len(slow["barrier"]) == 5
    for here, there in ((fast, slow), (slow, fast)):
        for number in range(5):
            # All ranks of a node have the same clock.
            assert here["barrier"][number][1] >= there["compute"][number][1]
            assert here["iteration"][number] == (here["compute"][number][0], here["barrier"][number][1])
        assert len(here["agree"]) == 2
        assert here["agree"][0][1] >= there["agree"][0][0]  # nobody knows before the last has come
    assert min(end - start for start, end in slow["compute"]) >= 30_000_000
