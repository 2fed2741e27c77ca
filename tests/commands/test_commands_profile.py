"""`simai-rules profile`: a machine's profile, filled in and put where Snakemake finds it by name."""

from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args

from simai_rules.cli import main
from simai_rules.config.profile import Profile, find_profile, profiles_in, user_folder
from simai_rules.config.profile_install import filled_in
from simai_rules.config.system_files import load_system
from simai_rules.resources import shipped

PROFILE = """\
# A machine of the tests.
executor: pbs
pbs-account: ""
pbs-queue: ""  # see the site's page
# pbs-filesystems: home
pbs-setup: []
jobs: 4
config:
  - system=mine
# group-components: ["point=8"]
"""
SYSTEM = """\
name: mine
scheduler: pbs
setup: [module load frameworks]
queues:
  debug: {max_nodes: 2, max_minutes: 60, max_jobs: 1, comment: for tests}
  prod: {min_nodes: 256}
"""
ALL = ("--account", "P1", "--queue", "debug")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of the user's own, with an empty folder to work in and an empty home."""
    folder = tmp_path / "machines/mine"
    folder.mkdir(parents=True)
    (folder / "config.v8+.yaml").write_text(PROFILE)
    (folder / "system.yaml").write_text(SYSTEM)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("snakemake.common.APPDIRS", None)
    return folder


def install(machine: Path, *arguments: str) -> int:
    return main(["profile", "install", f"{machine}/", *arguments])


def installed() -> dict[str, object]:
    return dict(yaml.safe_load((user_folder() / "mine/config.v8+.yaml").read_text()))


def test_an_installed_profile_is_filled_in(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup = ("--setup", ". venv/bin/activate", "echo 'a: #b'", "--pack", "8", "--filesystems", "home:flare")
    assert install(machine, *ALL, *setup) == 0
    text = (user_folder() / "mine/config.v8+.yaml").read_text()
    assert text.startswith("# A machine of the tests.\n")
    assert installed() == {
        "executor": "pbs",
        "pbs-account": "P1",
        "pbs-queue": "debug",
        "pbs-filesystems": "home:flare",
        "pbs-setup": ["module load frameworks", ". venv/bin/activate", "echo 'a: #b'"],
        "jobs": 1,  # what the queue takes of one user
        "config": [f"system={user_folder()}/mine/system.yaml"],
        "group-components": ["point=8"],
    }
    assert load_system(find_profile("mine").system or "", Path()).name == "mine"
    assert "debug: for tests" in (said := capsys.readouterr().out)
    assert "snakemake --profile mine\n" in said


def test_a_profile_beside_the_experiment_names_its_machine(machine: Path) -> None:
    assert install(machine, *ALL, "--here") == 0
    profile = find_profile("profiles/mine")
    assert profile.system == "mine"
    assert load_system("mine", Path()).queues["debug"].max_nodes == 2


def test_all_that_is_wrong_or_lacking_is_told_at_once(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(machine, "--queue", "debg", "--partition", "p", "--pack", "0", "--setup", "a\nb") == 1
    said = capsys.readouterr().err
    assert "--account is lacking" in said
    assert "'debg' is no queue of mine. Did you mean 'debug'? There are: debug, prod" in said
    assert "--partition is no setting of it; it has: account, queue, filesystems, setup" in said
    assert "--pack 0" in said
    assert "has several lines" in said
    assert not (user_folder() / "mine").exists()


def test_installing_again_takes_other_values_but_nobodys_edits(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(machine, *ALL)
    assert install(machine, "--account", "P2", "--queue", "prod") == 0
    assert (installed()["pbs-account"], installed()["jobs"]) == ("P2", 4)
    file = user_folder() / "mine/config.v8+.yaml"
    edited = file.read_text().replace("jobs: 4", "jobs: 2")
    file.write_text(edited)
    assert install(machine, *ALL) == 1
    assert f"overwrites nobody's edits:\n  {file}\n" in capsys.readouterr().err
    assert file.read_text() == edited
    assert install(machine, "--account", "P2", "--queue", "prod", "--here") == 0  # elsewhere it may


def test_files_that_install_did_not_write_stay(machine: Path) -> None:
    folder = user_folder() / "mine"
    folder.mkdir(parents=True)
    (folder / "system.yaml").write_text("name: theirs\n")
    assert install(machine, *ALL) == 1
    assert [path.name for path in folder.iterdir()] == ["system.yaml"]
    assert (folder / "system.yaml").read_text() == "name: theirs\n"


def test_list_and_show(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(machine, *ALL, "--pack", "8")
    capsys.readouterr()
    assert main(["profile", "list"]) == 0
    said = capsys.readouterr().out
    assert "  mine  pbs, account P1, queue debug, 8 points in a submission\n" in said
    assert "  aurora " in said
    assert main(["profile", "show", "mine"]) == 0
    said = capsys.readouterr().out
    assert 'pbs-account: "P1"' in said
    assert "max_jobs: 1" in said


@pytest.mark.parametrize("command", [["install"], ["show"]])
def test_a_wrong_name_lists_the_right_ones(
    machine: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *command, "auror"]) == 1
    assert "Did you mean 'aurora'? There are: " in capsys.readouterr().err


def test_the_allocation_wants_a_machine(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "install", "allocation"]) == 1
    assert "--system is lacking" in capsys.readouterr().err
    assert main(["profile", "install", "allocation", "--system", "aurorra"]) == 1
    assert "--system aurorra" in capsys.readouterr().err
    assert main(["profile", "install", "allocation", "--system", f"{machine}/system.yaml"]) == 0
    assert load_system(find_profile("allocation").system or "", Path()).name == "mine"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\nb:\n  - x\n  # c\n- y\nd: 2\n", 'a: 1\nb: ["z"]\nd: 2\n'),
        ("# b: 3\na: 1\n", 'b: ["z"]\na: 1\n'),
        ("a: 1\nbb: 2", 'a: 1\nbb: 2\nb: ["z"]\n'),
    ],
)
def test_entries_are_replaced_as_a_whole(before: str, after: str) -> None:
    assert filled_in(before, {"b": ["z"]}) == after


SHIPPED = [folder.name for folder in profiles_in(shipped("profiles"))]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_machine_installs_and_snakemake_reads_it(machine: Path, name: str) -> None:
    """Snakemake knows every key of it, and resolves the system that the experiment then has."""
    profile = find_profile(str(shipped("profiles") / name))
    empty = [str(key) for key, value in profile.content.items() if value == ""]
    arguments = [
        word for key in empty for word in (f"--{key.removeprefix(f'{profile.executor}-')}", _value(profile, key))
    ]
    arguments += ["--system", "local"] if name == "allocation" else []
    assert main(["profile", "install", name, *arguments]) == 0
    Path("Snakefile").touch()
    _, options = parse_args(["--profile", name])
    assert options.executor in (None, profile.executor)
    (system,) = [entry.removeprefix("system=") for entry in options.config]
    assert load_system(system, Path()).name == ("local" if name == "allocation" else name)


def _value(profile: Profile, key: str) -> str:
    queues = load_system(profile.name, Path()).queues
    names = ("queue", "partition", "qos")
    return next(iter(queues), "any") if key.endswith(names) else "home:x"
