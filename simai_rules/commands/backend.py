"""`simai-rules backend`: list the backends, test one against the contract, or begin one of your own."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from simai_rules.errors import ConfigError, MissingProgram, UserError
from simai_rules.resources import shipped

HELP = """List the staging backends, test one against the contract that all of them keep, or begin one of your own.

  simai-rules backend list
  simai-rules backend test redis
  simai-rules backend test filesystem --options '{"folder": "/scratch/me", "shards": 16}'
  simai-rules backend new my-store && pip install -e my-store && simai-rules backend test my-store

docs/backends.md tells what the contract is and how to write a backend."""

_PACKAGES = {
    "dragon": ("dragon", "pip install 'simai-rules[dragon]'"),
    "adios2": ("adios2", "pip install 'simai-rules[adios2]'"),
    "daos-kv": ("pydaos", "it comes with DAOS: load the site's module"),
}
"""The Python package that a backend needs, and how to get it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    verbs.add_parser(
        "list", help="print all backends, from where their values can be read, and which can be used on this machine"
    )
    test = verbs.add_parser(
        "test",
        help="run the contract suite against one backend",
        description="Run the contract suite against one backend, ours or another package's. It takes less than a "
        "minute; exit code 0 where the contract is kept, 1 where it is not or nothing was tested.",
    )
    test.add_argument("name", metavar="NAME", help="a name that 'simai-rules backend list' prints")
    test.add_argument("--options", metavar="JSON", help="the backend's options, such as '{\"shards\": 16}'")
    test.add_argument("-k", metavar="WORDS", dest="words", help="run the tests with these words in their names alone")
    test.add_argument(
        "--large", action="store_true", help="stage 4 GiB at once, and run nothing else (13 GB of memory)"
    )
    new = verbs.add_parser(
        "new",
        help="write a backend of your own, which works, to be changed",
        description="Write the module of a backend that keeps values in files, and the pyproject.toml that registers "
        "it. It passes the contract as it is; comments mark what to change.",
    )
    new.add_argument("name", metavar="NAME", help="what stands on the axis 'backend': small letters, digits and '-'")
    new.add_argument("--folder", metavar="DIR", type=Path, help="the folder to make (default: NAME)")


def run(args: argparse.Namespace) -> int:
    """Do what the verb says."""
    if args.verb == "list":
        return _list()
    if args.verb == "test":
        chosen = [*(["-k", args.words] if args.words else []), *(["-m", "large"] if args.large else [])]
        return _test(args.name, args.options, chosen)
    return _new(args.name, args.folder or Path(args.name))


def _list() -> int:
    from simai_rules.config.registry import broken, option_models, origin, own_names, registered, third_party

    rows = [("backend", "package", "readable from", "usable here")]
    for name, model in option_models().items():
        package = origin(third_party()[name]) if name in third_party() else "simai-rules"
        rows.append((name, package, model.model_validate({}).sharing, _usable(name)))
    rows += [(name, origin(third_party()[name]), "-", f"no: {reason}") for name, reason in broken().items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]))
    for entry in registered():
        if entry.name in own_names():
            print(f"\nIgnored: {entry.name!r} of {origin(entry)}; this name is simai-rules' own.")
    return 0


def _usable(name: str) -> str:
    """Return `yes`, or what is missing on this machine and how to get it."""
    from simai_rules.config.registry import option_models

    required = [f"backends.{name}.{option}" for option in option_models()[name].required]
    if name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name][0]) is None:
        package, remedy = _PACKAGES[name]
        return f"no: the Python package {package} is not installed ({remedy})"
    if name.startswith("redis"):
        from simai_rules.staging.servers.redis_process import find_redis_server

        try:
            find_redis_server()
        except MissingProgram as error:
            return f"no: {error}"
    return f"with {' and '.join(required)}" if required else "yes"


def _test(name: str, options: str | None, chosen: list[str]) -> int:
    _check_options(name, options)
    missing = [package for package in ("pytest", "pytest_timeout") if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingProgram(
            f"The contract suite needs {' and '.join(missing)}, not installed here. Get it by: "
            "pip install 'simai-rules[contract]'"
        )
    tests = shipped("tests/staging")
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "--tb=short", "-rsx", "--timeout=300"]
    # Neither the settings nor the other tests of the folder that this runs in, or of a checkout, have a say in it.
    command += ["-c", os.devnull, f"--rootdir={tests}", f"--confcutdir={tests}", "-p", "no:cacheprovider"]
    command += [str(file) for file in sorted(tests.glob("test_staging_contract*.py"))]
    command += [f"--backend={name}", *([f"--backend-options={options}"] if options else []), *chosen]
    with tempfile.TemporaryDirectory(prefix="simai-rules-contract-") as folder:
        results = Path(folder, "results.xml")
        code = subprocess.run([*command, f"--junitxml={results}"], check=False).returncode
        if not results.exists():
            raise UserError(f"The contract suite did not run (pytest's exit code is {code}; its words are above).")
        kept, text = _outcome(results)
    print(f"\nbackend {name}: {text}")
    return 0 if kept and not code else 1


def _check_options(name: str, options: str | None) -> None:
    """Raise ConfigError for a backend that is not known or cannot be used, and for options that it does not take."""
    from simai_rules.config.registry import option_models, own_names
    from simai_rules.staging.servers import parse_config

    try:
        given = json.loads(options or "{}")
    except ValueError as error:
        raise ConfigError(f"--options is not JSON ({error}): {options}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"--options takes a JSON object, such as '{{\"shards\": 16}}', and not {options}")
    # Without options, the suite brings those that one of our own needs.
    if options is None and name in own_names() and option_models()[name].required:
        return
    parse_config(json.dumps(given | {"type": name}))


def _outcome(results: Path) -> tuple[bool, str]:
    """Return whether the contract is kept, and in words what pytest has written down."""
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))  # noqa: S314 - written a moment ago, by us
    kinds = [next(iter(case)).tag if len(case) else "passed" for case in cases]
    count = {kind: kinds.count(kind) for kind in ("passed", "failure", "error", "skipped")}
    failed = count["failure"] + count["error"]
    if not count["passed"] and not failed:
        return False, "nothing was tested; the reasons are above."
    aside = f", {count['skipped']} do not apply or are excused (reasons above)" if count["skipped"] else ""
    if failed:
        passed = f"{count['passed']} passed{aside}"
        return False, f"does NOT keep the contract: {failed} of {len(cases)} tests failed, {passed}."
    return True, f"keeps the contract: {count['passed']} tests passed{aside}."


def _new(name: str, folder: Path) -> int:
    from simai_rules.config.registry import NAME, Options, own_names

    if not NAME.fullmatch(name) or hasattr(Options, name.replace("-", "_")):
        raise UserError(f"{name!r} cannot name a backend: it takes small letters, digits and single '-' (my-store).")
    if name in own_names():
        raise UserError(f"{name!r} is a backend of simai-rules itself. Take another name.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already, and nothing is overwritten. Give another --folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in rendered(name):
            (folder / file).write_text(text)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    print(f"The backend {name} is in {folder}. It works as it is; the comments with CHANGE say where yours comes in.")
    print(f"  pip install -e {folder}\n  simai-rules backend test {name}")
    return 0


def rendered(name: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of a new backend."""
    import jinja2

    module = f"simai_rules_{name.replace('-', '_')}"
    names = {"name": name, "module": module, "package": f"simai-rules-{name}"}
    names["title"] = "".join(part.capitalize() for part in name.split("-"))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701 - not a page
    for template, file in (("module.py.j2", f"{module}.py"), ("pyproject.toml.j2", "pyproject.toml")):
        yield file, environment.from_string(shipped(f"templates/backend/{template}").read_text()).render(names)
