"""An import path whose module is not there is found before anything runs; what is unclear is left to the ranks."""

import sys

import pytest

from simai_rules.config.import_paths import check_import_paths, missing
from simai_rules.config.loader import load_experiment
from simai_rules.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    """The folder of an experiment with modules, all of which fail when they are run."""
    for file, text in {
        "mine.py": "1 / 0",
        "package/__init__.py": "1 / 0",
        "package/inner.py": "1 / 0",
        "namespace/inner.py": "1 / 0",
        "dynamic/__init__.py": "__path__.append('elsewhere'); 1 / 0",
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        *("mine:f", "package:f", "package.inner:f", "namespace.inner:C.f"),
        *("numpy.linalg:norm", "os.path:join", "dynamic.other:f", "mine.made_by_code:f"),
    ],
)
def test_what_is_there_or_may_be(folder, path):
    before = set(sys.modules)
    assert missing(path, folder) == ""
    assert not {"mine", "package", "namespace", "dynamic"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nowhere:f", r"nowhere:f: there is no module nowhere\. It has to be installed in /.*, on PYTHONPATH, or in /"),
        ("package.other:f", r"there is no module other in package \(/.*/package\)"),
        ("namespace.other.x:f", r"there is no module other in namespace \(/"),
        ("package.inner_:f", "there is no module inner_ in package"),
    ],
)
def test_what_is_not_there(folder, path, expected):
    import re

    assert re.search(expected, missing(path, folder))


CONFIG = """
name: e
simulation:
  start: {kernels: [{name: "nowhere:f"}]}
  kernels: [{name: FFT}, {name: "mine:f"}]
  mix: [{kernels: [{name: "package.other:f"}]}]
training:
  model: {name: "no_nets:Net", inputs: [4]}
"""


def test_every_one_of_an_experiment_is_told_once(folder):
    (folder / "config.yaml").write_text(CONFIG)
    points = load_experiment(folder / "config.yaml").points.values()
    assert len(points) == 3
    with pytest.raises(ConfigError) as raised:
        check_import_paths(points, folder)
    first, *others = str(raised.value).splitlines()
    assert first == "3 import paths lead nowhere:"
    keys = [line.strip().split(": ")[:2] for line in others]
    assert keys == [
        ["simulation.start.kernels[0].name", "nowhere:f"],
        ["simulation.mix[0].kernels[0].name", "package.other:f"],
        ["training.model.name", "no_nets:Net"],
    ]


def test_what_a_job_loads_first_is_not_judged_here(folder):
    (folder / "config.yaml").write_text(CONFIG + "system: machine.yaml\n")
    (folder / "machine.yaml").write_text("name: machine\nsetup: [module load frameworks]\n")
    check_import_paths(load_experiment(folder / "config.yaml").points.values(), folder)
