"""A kernel of the user's own runs by its import path; whatever is wrong with it is told in one message."""

import sys

import numpy as np
import own_kernels
import pytest
from kernel_making import kernel

from simai_rules.errors import UserError
from simai_rules.kernels.check import check_kernels


@pytest.fixture(autouse=True)
def calls():
    own_kernels.calls.clear()
    return own_kernels.calls


def test_the_function_makes_what_does_the_work(calls):
    made = kernel("own_kernels:smoothing", (20,), "float64", arguments={"weight": 0.25})
    assert calls == []
    made()
    ((x, y),) = calls
    np.testing.assert_array_equal(y[1:-1], 0.25 * (x[:-2] + x[2:]))
    assert x.dtype == np.float64
    assert (made.flops(), made.nbytes()) == (40, 480)
    assert made.name == "own_kernels:smoothing"
    assert not made.collective


def test_operands_depend_on_the_seed(calls):
    for seed in (1, 1, 2):
        kernel("own_kernels:smoothing", (20,), seed=seed)()
    first, second, third = (x.tolist() for x, _ in calls)
    assert first == second != third


def test_a_class_or_an_attribute_of_one(calls):
    made = kernel("own_kernels:Class")
    made()
    kernel("own_kernels:Class.make")()
    assert calls == [1, "static"]
    assert made.collective
    assert made.agree(3) == made.agree_least(3) == 3
    assert (made.flops(), made.nbytes(), made.memory()) == (0, 0, 0)


def test_a_module_of_the_folder_that_the_run_was_started_in(tmp_path, monkeypatch):
    (tmp_path / "in_the_experiment.py").write_text("def nothing(setup):\n    return lambda: None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    kernel("in_the_experiment:nothing")()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_module:f", r"module no_such_module cannot be imported \(ModuleNotFoundError: .* PYTHONPATH, or in /"),
        ("own_kernels:missing", r"own_kernels \(.*own_kernels\.py\) has no missing\."),
        ("own_kernels:Class.missing", "has no Class.missing"),
        ("own_kernels:NUMBER", "NUMBER is a int, not a function"),
        (
            "own_kernels:failing",
            r"function failed at .*own_kernels\.py:\d+ with ZeroDivisionError: division by zero",
        ),
        ("own_kernels:returns_nothing", "returned a NoneType. It has to return what does the work"),
    ],
)
def test_what_is_wrong_is_told(name, expected):
    with pytest.raises(UserError, match=f"kernel {name}: .*{expected}"):
        kernel(name)


def test_a_call_that_fails_later_is_told_with_its_place():
    made = kernel("own_kernels:fails_at_the_fifth_call")
    for _ in range(4):
        made()
    expected = r"^kernel own_kernels:fails.*: a call failed at .*own_kernels\.py:\d+ with ValueError: no more\.$"
    with pytest.raises(UserError, match=expected):
        made()


def test_a_program_that_ends_when_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "a_program.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"a_program cannot be imported \(SystemExit: 0\)"):
        kernel("a_program:f")


def test_a_module_that_fails_when_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"broken_module cannot be imported \(RuntimeError: no licence\)"):
        kernel("broken_module:f")


def test_an_import_path_is_checked_without_a_call():
    from simai_rules.config.kernels import KernelConfig

    check_kernels([KernelConfig(name="own_kernels:failing")])
    with pytest.raises(UserError, match="has no missing"):
        check_kernels([KernelConfig(name="own_kernels:missing")])
