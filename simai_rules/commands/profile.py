"""`simai-rules profile`: Snakemake profiles of machines, filled in for a project, where Snakemake finds them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from simai_rules.errors import UserError

if TYPE_CHECKING:
    from simai_rules.config.profile import Profile

HELP = """Install, list and show the Snakemake profiles of machines: with one, `snakemake --profile MACHINE` submits.
A machine is a folder with a profile (config.v8+.yaml) and the description of its nodes and queues (system.yaml)."""

SETTINGS = {
    "account": "the project that pays",
    "queue": "PBS: the queue",
    "partition": "Slurm: the partition",
    "qos": "Slurm: the quality of service",
    "constraint": "Slurm: features of the nodes",
    "filesystems": "PBS at ALCF: the file systems that jobs need, such as home:flare",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare install, list and show."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="install|list|show")
    install = actions.add_parser(
        "install", help="fill in a machine's profile and put it where Snakemake finds it by name"
    )
    install.add_argument(
        "machine", metavar="MACHINE", help="a name of `profile list`, or a folder of your own (with a /)"
    )
    for name, text in SETTINGS.items():
        install.add_argument(f"--{name}", metavar=name.upper(), help=text)
    install.add_argument(
        "--setup", nargs="+", default=[], metavar="LINE", help="shell lines at the beginning of every job"
    )
    install.add_argument("--pack", type=int, metavar="N", help="points in one submission (default: 1)")
    install.add_argument(
        "--system", metavar="MACHINE", help="take the description of another machine's nodes (needed for: allocation)"
    )
    install.add_argument("--here", action="store_true", help="into ./profiles, to be committed with the experiment")
    actions.add_parser("list", help="list the machines that come with simai-rules, and the profiles that are installed")
    show = actions.add_parser("show", help="print a profile and the description of its machine")
    show.add_argument("machine", metavar="MACHINE", help="the name of a profile, or a path")


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    if args.action == "list":
        _list()
    elif args.action == "show":
        _show(args.machine)
    else:
        _install(args)
    return 0


def _install(args: argparse.Namespace) -> None:
    from simai_rules.config.profile import user_folder
    from simai_rules.config.profile_install import Wanted, install

    settings = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    folder = Path("profiles") if args.here else user_folder()
    done = install(Wanted(args.machine, settings, tuple(args.setup), args.pack, args.system), folder, by_name=args.here)
    name = f"profiles/{done.folder.name}" if args.here else done.folder.name
    print(f"Profile {done.folder.name} is in {done.folder}{'' if done.written else ' (as it was)'}.")
    if done.comment:
        print(f"{done.queue}: {done.comment}")
    print("Next, in the folder of an experiment:")
    print(f"  simai-rules points --profile {name}  # jobs, nodes, walltime and node-hours; does the queue take them?")
    print(f"  snakemake --profile {name}")


def _list() -> None:
    from simai_rules.config.profile import profiles_in, user_folder
    from simai_rules.resources import shipped

    installed = user_folder()
    places = {
        "Come with simai-rules": shipped("profiles"),
        f"Installed in {installed} (snakemake --profile NAME)": installed,
        "Here, in profiles/ (snakemake --profile profiles/NAME)": Path("profiles"),
    }
    for title, place in places.items():
        folders = list(profiles_in(place))
        if folders:
            print(f"{title}:")
            width = max(len(folder.name) for folder in folders)
            for folder in folders:
                print(f"  {folder.name:<{width}}  {_in_words(folder)}")


def _in_words(folder: Path) -> str:
    from simai_rules.config.profile import find_profile

    try:
        profile = find_profile(str(folder))
    except UserError as error:
        return str(error)
    words = [profile.executor]
    words += [f"{name} {value}" for name in SETTINGS if (value := profile.setting(name))]
    words += [f"{profile.pack} points in a submission"] if profile.pack > 1 else []
    return ", ".join(words)


def _show(machine: str) -> None:
    from simai_rules.config.profile import find_profile

    profile = find_profile(machine)
    for file in (profile.file, _system_file(profile)):
        if file is not None:
            print(f"# ---- {file}")
            print(file.read_text().rstrip())


def _system_file(profile: "Profile") -> Path | None:
    file = Path(profile.system) if profile.system and "/" in profile.system else profile.file.with_name("system.yaml")
    return file if file.is_file() else None
