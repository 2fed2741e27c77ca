"""Filling in a machine's profile and putting it, with the description of the machine, where Snakemake finds it."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simai_rules.config.keys import did_you_mean
from simai_rules.config.profile import FILE_NAME, GROUP, Profile, profile_file, profiles_in
from simai_rules.config.system import SystemConfig
from simai_rules.config.system_files import load_system
from simai_rules.config.yaml_file import read_mapping
from simai_rules.errors import ConfigError, UserError
from simai_rules.files import replacing, write_json
from simai_rules.resources import shipped

SYSTEM_FILE = "system.yaml"
RECORD = ".installed.json"
"""Beside an installed profile: the hashes of the files as they were written, to tell the user's edits."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    machine: str
    settings: Mapping[str, str]
    """Settings of the executor: account, queue, …"""
    setup: Sequence[str] = ()
    pack: int | None = None
    system: str | None = None


@dataclass(frozen=True)
class Installed:
    """An installed profile; `comment` is what there is to know about its queue."""

    folder: Path
    written: bool
    queue: str
    comment: str


def install(wanted: Wanted, place: Path, *, by_name: bool) -> Installed:
    """Write the profile and its system.yaml into a folder of its name in `place`.

    by_name: experiments find the system by the machine's name, as in their own profiles/; else by its path. Raises
    ConfigError with all that is wrong or lacking, and UserError where a file has been edited; nothing is written then.
    """
    source = _source(wanted.machine)
    system_file = _system_file(wanted, source)
    folder = place / source.name
    text = (profile_file(source) or source / FILE_NAME).read_text()
    profile = Profile(source.name, source / FILE_NAME, read_mapping(profile_file(source) or source / FILE_NAME))
    system = load_system(str(system_file), Path()) if system_file else SystemConfig()
    problems = _problems(profile, system, wanted, system_file)
    if problems:
        listing = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"The profile {profile.name} cannot be installed:{listing}")
    changes: dict[str, Any] = {f"{profile.executor}-{name}": value for name, value in wanted.settings.items()}
    lines = [*system.setup, *wanted.setup]
    if lines and profile.executor != "local":
        changes[f"{profile.executor}-setup"] = lines
    if wanted.pack:
        changes["group-components"] = [f"{GROUP}={wanted.pack}"]
    queue = _queue(profile, wanted)
    limits = system.queues.get(queue or "")
    if limits is not None and limits.max_jobs is not None:
        changes["jobs"] = limits.max_jobs
    if limits is not None and limits.min_minutes > 1:
        changes[f"{profile.executor}-min-walltime"] = limits.min_minutes
    files = {FILE_NAME: text, SYSTEM_FILE: system_file.read_text() if system_file else ""}
    if system_file is not None:
        changes["config"] = [f"system={source.name if by_name else folder.absolute() / SYSTEM_FILE}"]
    files[FILE_NAME] = filled_in(text, changes)
    return Installed(folder, _write(folder, source, files), queue or "", (limits.comment or "") if limits else "")


def filled_in(text: str, changes: Mapping[str, Any]) -> str:
    """Return the YAML `text` with the top-level entries of `changes`; comments stay, and entries may stand in one."""
    for key, value in changes.items():
        # One line, or a key with the indented lines below it; or the same as a comment of one line.
        entry = re.compile(rf"^(?:{re.escape(key)}:.*(?:\n[ \t-].*)*|# {re.escape(key)}:.*)$", re.MULTILINE)
        line = f"{key}: {json.dumps(value, ensure_ascii=False)}"
        text, count = entry.subn(lambda _, line=line: line, text, count=1)  # type: ignore[misc]
        if not count:
            text = f"{text.rstrip()}\n{line}\n"
    return text


def _source(machine: str) -> Path:
    """Return the folder of the machine: one of the user's own, named by a path, or one that came with simai-rules."""
    if "/" in machine:
        folder = Path(machine).absolute()
        if profile_file(folder) is None or not folder.is_dir():
            raise ConfigError(f"{machine}: there is no folder with a {FILE_NAME}")
        return folder
    known = list(profiles_in(shipped("profiles")))
    for folder in known:
        if folder.name == machine:
            return folder
    names = [folder.name for folder in known]
    raise ConfigError(
        f"There is no machine {machine!r}.{did_you_mean(machine, names)} There are: {', '.join(names)}. A machine of "
        f"your own is a folder with a {FILE_NAME} and a {SYSTEM_FILE}; give its path, with a /."
    )


def _system_file(wanted: Wanted, source: Path) -> Path | None:
    """Return the description of the machine's nodes, or None where there is none."""
    if wanted.system is None:
        file = source / SYSTEM_FILE
        return file if file.is_file() else None
    file = Path(wanted.system) if "/" in wanted.system else shipped("profiles") / wanted.system / SYSTEM_FILE
    if file.is_file():
        return file.absolute()
    known = [path.parent.name for path in sorted(shipped("profiles").glob(f"*/{SYSTEM_FILE}"))]
    raise ConfigError(
        f"--system {wanted.system}: there is no {file}.{did_you_mean(wanted.system, known)} There are: "
        f"{', '.join(known)}; or give a path, with a /."
    )


def _problems(profile: Profile, system: SystemConfig, wanted: Wanted, system_file: Path | None) -> list[str]:
    """Return all that is wrong with what the user asked for."""
    prefix = f"{profile.executor}-"
    offered = [key.removeprefix(prefix) for key in _keys(profile) if key.startswith(prefix)]
    found = []
    for name, value in wanted.settings.items():
        if name not in offered:
            found.append(
                f"--{name} is no setting of it; it has: {', '.join(offered) or 'none, for it submits nothing'}"
            )
        elif not value.strip() or "\n" in value:
            found.append(f"--{name} {value!r} is empty or has several lines")
    for key, value in profile.content.items():
        name = str(key).removeprefix(prefix)
        if value == "" and str(key).startswith(prefix) and name not in wanted.settings:
            known = f" ({', '.join(system.queues)})" if name in ("queue", "partition", "qos") and system.queues else ""
            found.append(f"--{name} is lacking: the machine's jobs need it{known}")
    queue = _queue(profile, wanted)
    if queue and system.queues and queue not in system.queues:
        known_queues = list(system.queues)
        found.append(
            f"{queue!r} is no queue of {system.name}.{did_you_mean(queue, known_queues)} There are: "
            f"{', '.join(known_queues)}"
        )
    if system_file is None:
        found.append(
            "--system is lacking: the machine whose nodes the job has, such as aurora; or a path to a system.yaml"
        )
    if wanted.pack is not None and (wanted.pack < 1 or profile.executor == "local"):
        found.append(f"--pack {wanted.pack}: takes a number >= 1, and a profile that submits jobs")
    found += [f"--setup {line!r} has several lines; give each as one argument" for line in wanted.setup if "\n" in line]
    return found


def _keys(profile: Profile) -> list[str]:
    """Return the profile's keys, those in comments (`# simai-slurm-qos: …`) included."""
    return re.findall(r"^(?:# )?([a-z][a-z-]*):", profile.file.read_text(), re.MULTILINE)


def _queue(profile: Profile, wanted: Wanted) -> str | None:
    names = ("queue", "qos", "partition")
    return next((value for name in names if (value := wanted.settings.get(name) or profile.setting(name))), None)


def _write(folder: Path, source: Path, files: Mapping[str, str]) -> bool:
    """Write the files and return whether any of them is new; raises UserError where one was edited by the user."""
    record = folder / RECORD
    try:
        written = json.loads(record.read_text())
    except (OSError, ValueError):
        written = {}
    new, edited = {}, []
    for name, text in files.items():
        path = folder / name
        there = path.read_text() if path.is_file() else None
        if there == text:
            continue
        new[name] = text
        original = source / name
        ours = there is None or written.get(name) == _hash(there)
        if not ours and not (original.is_file() and original.read_text() == there):
            edited.append(str(path))
    if edited:
        listing = "".join(f"\n  {path}" for path in edited)
        raise UserError(
            f"These files were edited, and install overwrites nobody's edits:{listing}\nNothing was written. Change "
            "them by hand, or move them away and install again."
        )
    for name, text in new.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text)
    write_json(record, {name: _hash(text) for name, text in files.items()})
    return bool(new)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
