"""`simai-rules init`: a folder of the user's own with an experiment's Snakefile, configs and profiles."""

import argparse
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from simai_rules.errors import UserError
from simai_rules.files import replacing
from simai_rules.resources import shipped

HELP = "Make a folder with an experiment of your own: Snakefile, configs and profiles, to change and to commit."

# What runs leave in an experiment's folder of a checkout; names that begin with a dot are left out as well.
_NOT_COPIED = {"results", "staging", "__pycache__"}
# Profiles that an experiment has of its own; those of machines are filled in by `profile install`.
_PROFILES = ("default", "local")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder and the experiment to start from."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to make, or to complete")
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        default="one_to_one",
        help=f"the experiment to start from (default: one_to_one; there are: {', '.join(experiments())})",
    )


def experiments() -> list[str]:
    """Return the names of the experiments that this installation ships."""
    return sorted(snakefile.parent.name for snakefile in shipped("Snakefiles").glob("*/Snakefile"))


def run(args: argparse.Namespace) -> int:
    """Copy the experiment; raise UserError, before anything is written, if a file there would be overwritten."""
    folder: Path = args.folder
    contents = dict(_contents(_find(args.experiment)))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, so it cannot become the folder of an experiment. Name another one.")
    ignored = _missing_from_gitignore(folder, contents.pop(".gitignore"))
    new = {name: content for name, content in contents.items() if not _is_there(folder / name, content)}
    clashes = [name for name in new if (folder / name).exists()]
    if clashes:
        listing = "\n".join(f"  {name}" for name in clashes)
        raise UserError(
            f"{folder} has files of these names with another content, and init overwrites nothing:\n{listing}\n"
            "Nothing was written. Move them away, or name another folder."
        )
    for name, content in new.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    if not (folder / ".gitignore").exists():
        with replacing(folder / ".gitignore") as temporary:
            temporary.write_bytes(shipped("templates/experiment/gitignore").read_bytes())
    _print_next(args.experiment, folder, written=len(new), there=len(contents) - len(new), ignored=ignored)
    return 0


def _find(name: str) -> Path:
    available = experiments()
    if name not in available:
        near = get_close_matches(name.replace("-", "_"), available, n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"There is no experiment '{name}'.{hint} There are: {', '.join(available)}.")
    return shipped(f"Snakefiles/{name}")


def _contents(experiment: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name, relative to the new folder, and the content of every file of it."""
    for file in _files(experiment):
        yield str(file.relative_to(experiment)), file.read_bytes()
    profiles = shipped("profiles")
    for name in _PROFILES:
        for file in _files(profiles / name) if (profiles / name).is_dir() else ():
            yield str(Path("profiles") / file.relative_to(profiles)), file.read_bytes()
    yield ".gitignore", shipped("templates/experiment/gitignore").read_bytes()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _NOT_COPIED or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _is_there(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Check its permissions.") from error


def _missing_from_gitignore(folder: Path, ours: bytes) -> list[str]:
    """Return the entries that an existing .gitignore lacks: it is the user's, never changed, no obstacle."""
    try:
        theirs = (folder / ".gitignore").read_text().split()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {folder / '.gitignore'}: {error}. Mend it or move it away.") from error
    entries = [line for line in ours.decode().splitlines() if line and not line.startswith("#")]
    return [entry for entry in entries if entry not in theirs and entry.rstrip("/") not in theirs]


def _print_next(experiment: str, folder: Path, *, written: int, there: int, ignored: list[str]) -> None:
    already = f", {there} were there already" if there else ""
    print(
        f"Experiment {experiment} is in {folder} ({written} files written{already}). It needs nothing else: commit it."
    )
    if ignored:
        print(f"Add to its .gitignore, which was left as it is: {' '.join(ignored)}")
    lines = [(f"cd {shlex.quote(str(folder))}", "")]
    lines += [("simai-rules points", "what would run; edit config.yaml until it is what you want to know")]
    if (folder / "demo.yaml").exists():
        lines += [("snakemake --configfile demo.yaml", "a small one first: two cores, some minutes")]
    lines += [("snakemake", "run it on this machine; what is missing or changed is run again, nothing else")]
    lines += [("simai-rules profile list", "or elsewhere: machines to install a profile of (profile install)")]
    lines += [("snakemake --profile NAME", "submit it there; points --profile NAME says first what that takes")]
    width = max(len(command) for command, text in lines if text)
    print("Next:")
    for command, text in lines:
        print(f"  {command:<{width}}  # {text}" if text else f"  {command}")
