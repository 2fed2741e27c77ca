"""A training on several ranks: gradients are averaged, and they take equally many steps whatever they have read."""

import json
import sys
from pathlib import Path

import pytest
from coupled_runs import finish, start_ranks

MODELS = ["graph", "cnn", "unet", "autoencoder", "transformer"]


@pytest.fixture(scope="module", params=[2, 4])
def seen(request, tmp_path_factory):
    # By mpi4py, a rank that raises ends the others; they would wait for it.
    program = [sys.executable, "-m", "mpi4py", str(Path(__file__).with_name("ddp_program.py"))]
    temporary = tmp_path_factory.mktemp("ddp")
    [(code, output)] = finish(start_ranks(program, request.param, TMPDIR=str(temporary)))
    assert code == 0, output
    assert list(temporary.glob("simai-rules-*")) == []
    found = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    assert len(found["ranks"]) == request.param
    return found


def test_all_ranks_have_the_same_weights(seen):
    first, *others = seen["ranks"]
    for other in others:
        assert first["by_count"]["weights"] == other["by_count"]["weights"]
        assert first["weights"] == other["weights"]
    assert first["weights"] != first["by_count"]["weights"]


def test_the_result_is_that_of_one_process_with_the_joined_batch(seen):
    joined, ranks = seen["joined"], [rank["by_count"] for rank in seen["ranks"]]
    assert ranks[0]["weights"] == pytest.approx(joined["weights"], abs=1e-4)
    for moment in ("first", "loss"):
        mean = sum(rank[moment] for rank in ranks) / len(ranks)
        assert mean == pytest.approx(joined[moment], rel=1e-4)
    assert ranks[0]["first"] != ranks[1]["first"]


@pytest.mark.parametrize("name", MODELS)
def test_so_is_that_of_the_other_models(seen, name):
    joined, ranks = seen["joined"]["models"][name], [rank["models"][name] for rank in seen["ranks"]]
    for rank in ranks:
        assert rank["weights"] == ranks[0]["weights"] == pytest.approx(joined["weights"], abs=1e-6)
        assert rank["names"] == joined["names"]  # as they are published, without DDP's "module."
    assert sum(rank["loss"] for rank in ranks) / len(ranks) == pytest.approx(joined["loss"], rel=1e-4)


def test_a_model_by_import_path_may_leave_weights_unused(seen):
    ranks = [rank["models"]["partly"] for rank in seen["ranks"]]
    for rank in ranks:
        assert rank["weights"] == ranks[0]["weights"]
    assert "unused.weight" in ranks[0]["names"]


def test_the_ranks_take_equally_many_steps_in_their_time(seen):
    steps = [[steps for _, steps in rank["times"]] for rank in seen["ranks"]]
    assert all(each == steps[0] for each in steps)
    assert min(steps[0]) >= 1
    for number, rank in enumerate(seen["ranks"]):
        # In whole ns, as the deadline is: 0.35 is less than 0.2 + 3 * 0.05.
        assert round(min(seconds for seconds, _ in rank["times"]) * 1e9) >= round((0.2 + 0.05 * number) * 1e9)
        assert rank["inferred"] == number + 1


def test_the_process_group_is_left_and_each_rank_uses_its_core(seen):
    for rank in seen["ranks"]:
        assert rank["in_group"] is False
        assert rank["threads"] == 1


def test_the_net_is_no_longer_distributed_when_the_group_is_left(seen):
    # Else what is freed last may wait for ever for gloo's threads: see Learner.close.
    for rank in seen["ranks"]:
        assert rank["distributed_at_the_end"] == [0] * (2 + len(MODELS))


ABSENT = """
import numpy as np
from simai_rules.components.ai import AI
from simai_rules.components.ranks import Ranks
from simai_rules.errors import UserError
ranks = Ranks.from_environment()
with AI(model={"features": 3, "batch_size": 8}, ranks=ranks, timeout=4) as ai:
    ai.add_data(np.ones(40))
    ai.train(run_count=3)
    try:
        if ranks.rank == 0:
            ai.train()
    except UserError as error:
        print("told:", error)
    ranks.comm.Barrier()
ranks.finalize()
"""


def test_nobody_waits_for_ever_for_a_rank_that_does_not_come(tmp_path):
    [(code, output)] = finish(start_ranks([sys.executable, "-c", ABSENT], 2, TMPDIR=str(tmp_path)))
    assert code == 0, output
    assert "told: A training step of mlp with batch_size 8 on cpu failed" in output
    assert "Where another rank has failed, its own message says why" in output
    assert "Warning" not in output
    assert list(tmp_path.glob("simai-rules-*")) == []
