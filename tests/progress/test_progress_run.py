"""The progress display with a real Snakemake: coupled points of a service and two consumers, one of which fails."""

import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SNAKEFILE = textwrap.dedent("""
    POINTS = ["backend~a/repeat~0", "backend~a/repeat~1", "backend~b/repeat~0"]

    wildcard_constraints:
        point=".+",

    rule all:
        input: "results/summary.txt"

    onerror:
        print("printed by onerror")

    rule summarize:
        input: expand("results/{point}/{who}.txt", point=POINTS, who=["simulation", "training"])
        output: "results/summary.txt"
        log: "results/summary.log"
        shell: "cat {input} > {output}"

    rule configure:
        output: "results/{point}/point.json"
        log: "results/{point}/logs/configure.log"
        localrule: True
        shell: "echo x > {output}"

    rule staging_server_a:
        input: "results/{point}/point.json"
        output: service("results/{point}/server.json")
        log: "results/{point}/logs/server.log"
        shell: "echo x > {output}; exec sleep 100"

    rule simulation:
        input: "results/{point}/server.json"
        output: "results/{point}/simulation.txt"
        log: "results/{point}/logs/simulation.log"
        shell: "echo calculating > {log}; sleep 0.5; echo x > {output}"

    rule training:
        input: "results/{point}/server.json"
        output: "results/{point}/training.txt"
        log: "results/{point}/logs/training.log"
        shell:
            "if [ -e fail ] && [ {wildcards.point} = backend~a/repeat~1 ]; then"
            "  echo reading 1 > {log}; echo the training broke >> {log}; exit 1;"
            " fi; echo x > {output}"
""")
CHATTER = re.compile(
    r"Building DAG|Select jobs|jobid|localrule|Finished job|Waiting at most|Terminating service|Using shell"
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--logger", "simai", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}


def in_pipe(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


def in_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run Snakemake with a pseudo-terminal as its stderr; return the exit code and all that was written to it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments), cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
    )
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    return process.wait(timeout=60), b"".join(chunks).decode()


def test_log_shows_points_the_failure_and_the_end_in_plain_lines(workflow: Path) -> None:
    (workflow / "fail").touch()
    code, out, err = in_pipe(workflow, "-c9", "--keep-going")
    lines = err.splitlines()
    assert code == 1
    assert out == "printed by onerror\n"
    assert "\x1b" not in err
    assert not CHATTER.search(err)
    assert lines[0] == "3 points to run"
    assert len([line for line in lines if re.match(r"\[[123]/3\] done backend~[ab]/repeat~0 \d+\.\d s", line)]) == 2
    failed = next(i for i, line in enumerate(lines) if "FAILED" in line)
    assert re.match(r"\[[123]/3\] FAILED backend~a/repeat~1 in training after .* s: the training broke$", lines[failed])
    assert lines[failed + 1 : failed + 4] == [
        "  log: results/backend~a/repeat~1/logs/training.log",
        "    | reading 1",
        "    | the training broke",
    ]
    assert re.match(r"2 of 3 points done, 1 failed in .*Logs of what failed: .*/logs/training.log$", lines[-1])

    (workflow / "fail").unlink()
    code, _, err = in_pipe(workflow, "-c9", "-p")
    assert code == 0
    assert err.startswith("1 point to run\n"), "points that were done are not counted again"
    assert "echo calculating > results/backend~a/repeat~1/logs/simulation.log" in err, "-p shows the commands"
    assert "[1/1] done backend~a/repeat~1" in err
    assert "done summarize" in err
    assert err.splitlines()[-1].startswith("1 of 1 point done, 0 failed in ")

    code, _, err = in_pipe(workflow, "-c9")
    assert code == 0
    assert err.strip() == "Nothing to be done (all requested files are present and up to date)."


def test_terminal_shows_a_bar_and_keeps_what_ended(workflow: Path) -> None:
    (workflow / "fail").touch()
    code, text = in_terminal(workflow, "-c3", "--keep-going")
    assert code == 1
    assert "\x1b[2K" in text, "the bar is drawn in place"
    shown = ESCAPES.sub("", text)
    assert not CHATTER.search(shown)
    assert re.search(r"━ 0 of 3 points done, 1 running, 2 left", shown)
    assert re.search(r"running backend~[ab]/repeat~[01] \d+\.\d s", shown)
    assert re.search(r"\d s elapsed, about \d+\.\d s left", shown)
    assert len(re.findall(r"\[[123]/3\] done backend~[ab]/repeat~0 ", shown)) == 2
    assert len(re.findall(r"\[[123]/3\] FAILED backend~a/repeat~1 in training", shown)) == 1
    assert "    | the training broke" in shown
    assert "\x1b[2Kprinted by onerror\r\n" in text, "on a line that was cleared for it"
    # The bar is gone in the end, the cursor is there, and one line says how it went.
    assert re.search(r"2 of 3 points done, 1 failed in .*training\.log\s*$", shown)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_dry_run_shows_snakemakes_own_plan(workflow: Path) -> None:
    code, out, err = in_pipe(workflow, "-c3", "-n")
    assert code == 0
    assert "rule staging_server_a:" in out
    assert re.search(r"^training +3$", out, re.MULTILINE)
    assert "This was a dry-run" in out
    assert "points" not in out + err
    code, out, err = in_pipe(workflow, "-c3", "-n", "--quiet")
    assert code == 0
    assert "rule staging_server_a:" not in out + err


def test_quiet_all_is_silent_and_quiet_progress_shows_failures(workflow: Path) -> None:
    (workflow / "fail").touch()
    code, out, err = in_pipe(workflow, "-c9", "--keep-going", "--quiet", "progress")
    assert code == 1
    assert "FAILED backend~a/repeat~1 in training" in err
    assert err.splitlines()[-1] == "    | the training broke"
    assert " done " not in err
    code, out, err = in_pipe(workflow, "-c9", "--keep-going", "--quiet", "all")
    assert (code, out, err) == (1, "printed by onerror\n", "")


@pytest.mark.parametrize(
    ("snakefile", "expected"),
    [
        ('rule all:\n    input: "missing.txt"\n', "Missing input files for rule all:"),
        ('raise ValueError("config.yaml: unknown key elemnts")\n', "config.yaml: unknown key elemnts"),
        ('rule a:\n    output: "x"\n    shell: "echo {nothing} > {output}"\n', "nothing"),
        ("rule a:\n    output: 'x'\n    log: 'a.log'\n    shell: 'echo oh > {log}; false'\n", "FAILED in a after"),
    ],
)
def test_errors_are_shown(tmp_path: Path, snakefile: str, expected: str) -> None:
    (tmp_path / "Snakefile").write_text(snakefile)
    code, _, err = in_pipe(tmp_path, "-c1")
    assert code == 1
    assert expected in err
    assert "progress display failed" not in err
