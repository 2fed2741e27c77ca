"""What a component's launcher says of its ranks, and when it does not start them."""

import pytest

from simai_rules.launch.placement import Placement
from simai_rules.lifecycle import component
from simai_rules.lifecycle.run_folder import RunFolder


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (-9, "ended by SIGKILL"),
        (9, "ended by SIGKILL"),
        (137, "ended by SIGKILL"),
        (7, "ended by SIGBUS"),
        (139, "ended by SIGSEGV"),
        (-2, "ended by SIGINT"),
        (1, "exit code 1;"),
        (255, "exit code 255;"),
    ],
)
def test_an_exit_code_of_a_launcher_is_explained(code, says):
    assert says in component._how_it_ended(code)


def test_ranks_are_not_started_without_shared_memory(monkeypatch):
    placement = Placement("training", ("here",), ((0,), (1,)), shared=False)
    component._check_shared_memory("training", placement)
    monkeypatch.setattr(component, "_BYTES_PER_RANK", 2**60)
    with pytest.raises(component.ComponentFailed, match="training: no room in /dev/shm"):
        component._check_shared_memory("training", placement)
    monkeypatch.setattr(component, "_SHARED_MEMORY", "/no/such/folder")
    component._check_shared_memory("training", placement)


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (["training", "simulation"], "^why training has failed$"),
        (["simulation", "training"], "^training was stopped because of another .*: why simulation has failed$"),
    ],
)
def test_the_earliest_reason_is_the_cause_and_none_is_told_in_a_circle(tmp_path, monkeypatch, notes, says):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = RunFolder.create(tmp_path / "server.json", None)
    for name in notes:
        run.fail(name, f"why {name} has failed")
    with pytest.raises(component.ComponentFailed, match=says):
        component._check_failures("training", run, tmp_path / "server.json")
