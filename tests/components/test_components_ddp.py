"""A training on two ranks: gradients are averaged, and the ranks take equally many steps whatever they have read."""

import json
import sys
from pathlib import Path

import pytest
from coupled_runs import finish, start_ranks


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    program = [sys.executable, str(Path(__file__).with_name("ddp_program.py"))]
    temporary = tmp_path_factory.mktemp("ddp")
    [(code, output)] = finish(start_ranks(program, 2, TMPDIR=str(temporary)))
    assert code == 0, output
    assert list(temporary.glob("simai-rules-*")) == []
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def test_both_ranks_have_the_same_weights(seen):
    first, second = seen["ranks"]
    assert first["by_count"]["weights"] == second["by_count"]["weights"]
    assert first["weights"] == second["weights"]
    assert first["weights"] != first["by_count"]["weights"]


def test_the_result_is_that_of_one_process_with_the_joined_batch(seen):
    joined, ranks = seen["joined"], [rank["by_count"] for rank in seen["ranks"]]
    assert ranks[0]["weights"] == pytest.approx(joined["weights"], abs=1e-4)
    for moment in ("first", "loss"):
        mean = sum(rank[moment] for rank in ranks) / len(ranks)
        assert mean == pytest.approx(joined[moment], rel=1e-4)
    assert ranks[0]["first"] != ranks[1]["first"]


def test_so_is_that_of_another_model_with_frozen_weights(seen):
    joined, ranks = seen["joined"]["graph"], [rank["graph"] for rank in seen["ranks"]]
    assert ranks[0]["weights"] == ranks[1]["weights"] == pytest.approx(joined["weights"], abs=1e-6)
    assert sum(rank["loss"] for rank in ranks) / len(ranks) == pytest.approx(joined["loss"], rel=1e-4)


def test_the_ranks_take_equally_many_steps_in_their_time(seen):
    first, second = ([steps for _, steps in rank["times"]] for rank in seen["ranks"])
    assert first == second
    assert min(first) >= 1
    for number, rank in enumerate(seen["ranks"]):
        assert min(seconds for seconds, _ in rank["times"]) >= 0.02 + 0.005 * number
        assert rank["inferred"] == number + 1


def test_the_process_group_is_left_and_each_rank_uses_its_core(seen):
    for rank in seen["ranks"]:
        assert rank["group_left"] is False
        assert rank["threads"] == 1
