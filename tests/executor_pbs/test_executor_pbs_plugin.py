"""The plugin as a whole: its page names every setting, and it stands on its own."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import snakemake_executor_plugin_pbs as plugin
from snakemake_executor_plugin_pbs import ExecutorSettings, problems

PAGE = Path(__file__).parents[2] / "docs" / "pbs-plugin.md"
MODULES = sorted(Path(plugin.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", [field.name for field in fields(ExecutorSettings)])
def test_the_page_explains_every_setting(name):
    assert f"| `pbs-{name.replace('_', '-')}` |" in PAGE.read_text()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_nothing_of_simai_rules_is_imported(module):
    tree = ast.parse(module.read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name.startswith("simai")]


def test_settings_that_are_not_given_are_no_problem():
    assert problems(ExecutorSettings()) == []
    assert problems(ExecutorSettings(account="", queue="", setup=[], extra_l=[])) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"account": "/some/profile"}, "an empty value in a profile becomes the profile's folder"),
        ({"place": "a b"}, "--pbs-place 'a b'"),
        ({"extra_l": ["select=3"]}, "the resource nodes"),
        ({"extra_l": ["filesystems=home"]}, "--pbs-filesystems"),
        ({"extra_w": ["depend"]}, "NAME=VALUE is wanted"),
        ({"setup": ["a\nb"]}, "without a line break"),
        ({"poll_seconds": float("nan")}, "a number of seconds above 0"),
        ({"polls_until_lost": 0}, "a number from 1 on"),
        ({"logdir": Path(__file__)}, "is no folder"),
    ],
)
def test_every_wrong_setting_is_named(settings, said):
    (problem,) = problems(ExecutorSettings(**settings))
    assert said in problem
