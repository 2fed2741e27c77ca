"""What an earlier call left behind: jobs that still run are waited for, those that have ended are closed."""

import time
from collections.abc import Callable, Sequence

from snakemake_executor_plugin_pbs.journal import Journal, Record
from snakemake_executor_plugin_pbs.scheduler import NoAnswer, Phase, Scheduler

DEADLINE_S = 300.0
PAUSE_S = 1.0


class Unsettled(Exception):
    """The batch system did not say within the deadline whether jobs of an earlier call still run."""


def still_running(
    journal: Journal, scheduler: Scheduler, misses: int, born: float, say: Callable[[str], None]
) -> list[Record]:
    """The submissions of earlier calls that are to be waited for; the others are closed, and said where they failed.

    ``born`` is the start of this Snakemake (seconds since 1970): the exit code of a job that has ended since then
    counts for this call, because the list of what is to be done may be older than its end. Unsettled: it cannot be
    told, and submitting again could run a job twice.
    """
    kept, open_ones = [], []
    for record in journal.open():
        identified = _identified(record)
        code = record.exit_code()
        if identified is None:
            continue
        if code is not None and code.at < born:
            _close(identified, f"failed, exit code {code.code}" if code.code else "ended well", say)
        elif code is not None:
            kept.append(identified)
        else:
            open_ones.append(identified)
    return kept + _ask(open_ones, scheduler, misses, say)


def _identified(record: Record) -> Record | None:
    """The record with its job id; None where the job never came about, cannot start, or belongs to a live call."""
    if record.job_id:
        return record
    if record.driver_alive:
        return None
    if record.give_up():
        record.close("given up: the call that submitted it was killed before it knew the job's id")
        return None
    job_id = record.claimed_id()
    return record.submitted_as(job_id) if job_id else None


def _ask(records: Sequence[Record], scheduler: Scheduler, misses: int, say: Callable[[str], None]) -> list[Record]:
    """Those of the records whose jobs have not ended; deleted ones are waited for until they are gone."""
    kept: list[Record] = []
    asked = {record.job_id: record for record in records}
    missed = dict.fromkeys(asked, 0)
    deadline = time.monotonic() + DEADLINE_S
    why = ""
    while asked:
        if time.monotonic() > deadline:
            ids = " ".join(asked)
            raise Unsettled(
                f"{scheduler.name} did not say within {DEADLINE_S:.0f} s whether jobs that an earlier call submitted "
                f"still run: {ids} ({why or 'they were cancelled and have not ended'}). Nothing is submitted, because "
                "it could run twice. Try again later, or end them and try again"
            )
        try:
            states = scheduler.states(list(asked))
        except NoAnswer as silence:
            why = str(silence)
            time.sleep(PAUSE_S)
            continue
        for job_id, record in list(asked.items()):
            state = states.get(job_id)
            if state is None:
                missed[job_id] += 1
                if missed[job_id] < misses:
                    continue
                _close(record, f"is no longer known to {scheduler.name} and left no exit code", say)
            elif state.phase is Phase.ENDED:
                code = record.exit_code(signalled=True)
                _close(record, state.message if code is None or code.signal else f"failed, exit code {code.code}", say)
            elif record.cancelled:
                continue
            else:
                kept.append(record)
            del asked[job_id]
        if asked:
            time.sleep(PAUSE_S)
    return kept


def _close(record: Record, how: str, say: Callable[[str], None]) -> None:
    record.close(how)
    if not record.cancelled and how != "ended well":
        say(f"job {record.job_id} ({record.name}) of an earlier call {how} (log: {record.log})")
