"""What the server half of daos-kv has done in another process: pydaos cannot be interrupted while it waits.

    python -m simai_rules.staging.backends.daos_objects keep POOL CONTAINER OBJECT RUN_ID NOTES
    python -m simai_rules.staging.backends.daos_objects empty POOL CONTAINER OBJECT

NOTES is a folder of the run: `answered` is touched after each answer, `error` says why the process has ended. It stands
beside the client half, and not the server half, because that package takes most of a second to import.
"""

import signal
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from simai_rules.errors import UserError
from simai_rules.staging.backends.daos_kv import RUN, import_pydaos
from simai_rules.staging.server import ServerFailed

ASK_EVERY_S = 0.5
_SILENT_S = 3
_AT_ONCE = 1024

ANSWERED, ERROR = "answered", "error"


def keep(pool: str, container: str, name: str, run_id: str, notes: str) -> None:
    """Make the run's object, mark it as the run's, and look at the mark for ever."""
    made = import_pydaos().DCont(pool, container).dict(name)
    made.put(RUN, run_id)
    while (found := made.get(RUN)) == run_id.encode():
        Path(notes, ANSWERED).touch()
        time.sleep(ASK_EVERY_S)
    raise ServerFailed(f"the object {name} belongs to the run {found!r} and not to {run_id!r}")


def empty(pool: str, container: str, name: str) -> None:
    """Remove all that lies in the run's object, and nothing else; does nothing where there is no such object.

    pydaos has no call to remove an object: its name, of some 30 bytes, stays in the container. The alarm ends this
    process where DAOS does not answer, also inside of pydaos: others wait for its end.
    """
    pydaos = import_pydaos()
    signal.alarm(_SILENT_S)
    try:
        found: Any = pydaos.DCont(pool, container).get(name)
    except pydaos.DObjNotFound:
        return
    # The mark goes first: a client that is left over then refuses to write.
    found.pop(RUN)
    while keys := list(islice(found, _AT_ONCE)):
        signal.alarm(_SILENT_S)
        found.bput(dict.fromkeys(keys))


def main() -> int:
    """Do what the first argument says; an error is a line in the notes, or in the log where there are none."""
    actions: dict[str, Callable[..., None]] = {"keep": keep, "empty": empty}
    action, *arguments = sys.argv[1:]
    try:
        actions[action](*arguments)
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if action == "empty":
            print(text, file=sys.stderr)  # noqa: T201 - the run's log
        else:
            Path(arguments[-1], ERROR).write_text(text)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
