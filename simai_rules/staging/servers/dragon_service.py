"""The program that the Dragon runtime of a run executes: makes the dictionary and asks it again and again.

`simai-rules serve` starts the runtime, reads what this writes, and ends both.

    dragon … python -m simai_rules.staging.servers.dragon_service FOLDER RUN_ID MANAGERS TOTAL_MEM
"""

import json
import sys
import time
from pathlib import Path

from simai_rules.staging.backends.dragon_dictionary import RUN_ID, Dictionary

READY, UNANSWERED = "ready.json", "unanswered"
_TIMEOUT_S = 120.0
"""The longest that a manager waits for one part of a client's message."""
_PROBE_S = 1.5
_PAUSE_S = 0.5


def main(folder: Path, run_id: str, managers: int, total_mem: int) -> None:
    """Make the dictionary, describe it in ready.json, and count the questions in a row that it leaves unanswered."""
    from dragon.data import DDict

    dictionary = DDict(managers, 1, total_mem, timeout=_TIMEOUT_S)
    text = dictionary.serialize()
    deadline_ns = time.perf_counter_ns() + int(_TIMEOUT_S * 1e9)
    marked = Dictionary(text, deadline_ns)
    marked.put(RUN_ID, [run_id.encode()], len(run_id), deadline_ns)
    marked.close(deadline_ns)
    probe = DDict.attach(text, timeout=_PROBE_S)
    unanswered = 0
    _replace(folder / UNANSWERED, "0")
    _replace(folder / READY, json.dumps({"dictionary": text}))
    while True:
        before = unanswered
        try:
            len(probe)  # every manager is asked
            unanswered = 0
        except Exception:  # a late answer to an earlier question does not count, so any error is a missing answer
            unanswered += 1
        if unanswered != before:
            _replace(folder / UNANSWERED, str(unanswered))
        time.sleep(_PAUSE_S)


def _replace(file: Path, text: str) -> None:
    """Write a file that its readers see whole."""
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(text)
    temporary.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
