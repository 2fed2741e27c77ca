"""Writes the results of the fault matrix into docs/reliability.md: python tests/faults/table.py RESULTS.xml...

RESULTS.xml is what `pytest tests/faults --junitxml=RESULTS.xml` leaves; of several, the last that has a cell counts.
"""

import os
import platform
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

BEGIN = "<!-- begin of the fault matrix: written by make faults -->"
END = "<!-- end of the fault matrix -->"
PAGE = Path(__file__).resolve().parent.parent.parent / "docs/reliability.md"
NOT_APPLICABLE = "not applicable: "

Cells = dict[tuple[str, str], str]


def read(files: Iterable[str]) -> tuple[Cells, str]:
    """Return the result of each cell (fault, backend), and when the last of them was made."""
    cells: Cells = {}
    when = ""
    for file in files:
        for suite in ET.parse(file).getroot().iter("testsuite"):
            when = max(when, suite.get("timestamp", ""))
            for test in suite.iter("testcase"):
                found = {item.get("name"): item.get("value") for item in test.iter("property")}
                bad = test.find("failure") is not None or test.find("error") is not None
                for name in found:
                    fault, _, backend = name.rpartition(" | ")
                    # What fails after the last fault of a test, as the run that has to complete, is that one's failure.
                    cells[fault, backend] = "FAILED" if bad and name == list(found)[-1] else found[name]
    return cells, when


def render(cells: Cells, backends: list[str], made: str) -> str:
    """Return the table: a row per fault, a column per backend, and the footnotes."""
    notes: list[str] = []
    head = [f"| fault | {' | '.join(backends)} |", f"| --- {'| --- ' * len(backends)}|"]
    lines = [
        f"| {fault} | {' | '.join(_cell(cells, fault, backend, notes) for backend in backends)} |"
        for fault in dict.fromkeys(fault for fault, _ in cells)
    ]
    footnotes = [f"[{number}] {note}  " for number, note in enumerate(notes, 1)]
    return "\n".join([*head, *lines, "", *footnotes, "", f"{made}."])


def _cell(cells: Cells, fault: str, backend: str, notes: list[str]) -> str:
    result = cells.get((fault, backend), "not run")
    if result.startswith(NOT_APPLICABLE):
        note = result.removeprefix(NOT_APPLICABLE).removeprefix(f"{backend} ")
        if note not in notes:
            notes.append(note)
        return f"n/a [{notes.index(note) + 1}]"
    return "**FAILED**" if result == "FAILED" else result if result == "not run" else f"ok, {result}"


def replaced(page: str, text: str) -> str:
    """Return the page with `text` between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def not_applicable() -> Cells:
    """Return all cells in the order of the declared table: why a fault does not apply to a backend, or "not run"."""
    tests = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(tests), str(tests / "staging")]
    from fault_list import FAULTS
    from fault_subjects import SUBJECTS

    return {
        (fault.name, subject.backend): f"{NOT_APPLICABLE}{why}" if (why := fault.not_for(subject)) else "not run"
        for fault in FAULTS
        for subject in SUBJECTS
    }


def main() -> None:
    found, when = read(sys.argv[1:])
    cells = not_applicable() | found
    backends = list(dict.fromkeys(backend for _, backend in cells))
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.system()} {platform.release()} {platform.machine()}"
    load = os.getloadavg()[2]  # seconds that were measured beside other work say little
    made = f"Run on {when[:10]}, {machine}, {cores} cores, load average {load:.0f} in the last 15 minutes"
    PAGE.write_text(replaced(PAGE.read_text(), render(cells, backends, made)))
    failed = [f"{fault} on {backend}" for (fault, backend), result in cells.items() if result == "FAILED"]
    print(f"{PAGE}: {len(cells)} cells, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")


if __name__ == "__main__":
    main()
