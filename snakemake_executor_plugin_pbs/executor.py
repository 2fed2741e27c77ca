"""The executor: Snakemake's jobs and groups on a batch system, whichever it is."""

import asyncio
import contextlib
import os
import shlex
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args, format_cli_arg

from snakemake_executor_plugin_pbs import resume
from snakemake_executor_plugin_pbs.demand import demand, limits, nested_cores
from snakemake_executor_plugin_pbs.finished import Failures, Job, members, part, unfinished
from snakemake_executor_plugin_pbs.journal import Journal, Record, covering
from snakemake_executor_plugin_pbs.scheduler import JobRequest, NoAnswer, Scheduler, State, SubmitFailed
from snakemake_executor_plugin_pbs.script import JobScript, render
from snakemake_executor_plugin_pbs.settings import BatchSettings
from snakemake_executor_plugin_pbs.watch import Watch

BORN = time.time()  # imported when Snakemake reads its command line, before it looks at any file
CANCEL_PATIENCE_S = 20.0
CANCEL_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
SAY_SILENCE_EVERY_S = 600.0


class BatchExecutor(RemoteExecutor):  # type: ignore[misc]  # the interface carries no types
    """One submission for each job or group; the nested Snakemake in it runs the members."""

    plugin = "snakemake_executor_plugin_pbs"
    folder_name = "pbs"

    @abstractmethod
    def make_scheduler(self) -> Scheduler:
        """The batch system, with this call's settings; raises WorkflowError for wrong ones, all of them at once."""

    @property
    def settings(self) -> BatchSettings:
        """This call's settings; the thread that polls is started before __post_init__ is called."""
        settings: BatchSettings = self.executor_settings
        return settings

    def __post_init__(self) -> None:
        """Check the settings before anything is submitted."""
        self.scheduler = self.make_scheduler()
        self.workdir = Path(self.workflow.workdir_init)
        base = self.settings.logdir or Path(".snakemake") / self.folder_name
        self.journal = Journal((self.workdir / base).absolute(), str(self.snakefile))
        self._failures = Failures()
        self._watched: dict[Job, list[Watch]] = {}
        self._watches: dict[Path, Watch] = {}
        self._earlier: list[Record] | None = None
        self._leaving = threading.Event()
        self._submitter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="submit")
        self._silent_since = self._said_silence = 0.0
        if self.settings.dry_submission:
            self._show_all()

    # Submission.

    def run_job(self, job: Job) -> None:
        """Submit a job or group, or wait for the jobs of an earlier call that already make it."""
        rest = self._failures.rest(job)
        making = covering(self._jobs_of_earlier_calls(), _targets(rest))
        ended_badly = [record for record in making if self._watch_of(record).good is False]
        running = [record for record in making if record not in ended_badly]
        if running:
            for record in running:
                self.logger.info(
                    f"{self.scheduler.name} job {record.job_id} of an earlier call makes this: waiting for it."
                )
            self._watch(job, running)
            return
        if ended_badly:
            waiting = self.workflow.async_run(unfinished(rest))
            if not waiting:
                self._watch(job, [])
                return
            rest = part(rest, waiting)
        self._submit(job, rest)

    def _submit(self, job: Job, rest: Job) -> None:
        """Submit ``rest``, the unfinished part of ``job``; a refusal fails this job alone."""
        try:
            need = demand(rest, self.settings.min_walltime)
        except WorkflowError as error:
            self._report(job, [str(error)], {*members(rest)})
            return
        record = self.journal.new(rest.name, _targets(rest), need.walltime_s)
        request = replace(need, script=record.script, output=record.output)
        record.script.write_text(self._script(rest, request), encoding="utf-8")
        record.script.chmod(0o700)
        # The markers come first: set after the submission they could hit a member that has finished by then.
        for member in members(rest):
            member.register(external_jobid=record.folder.name)
        try:
            # In another thread, so that a Ctrl-C here leaves the running qsub alone: it ends, and its job is cancelled.
            job_id = self._submitter.submit(self._send, record, request).result()
        except SubmitFailed as refusal:
            record.close(f"not submitted: {refusal.words}")
            self._report(
                job,
                [
                    f"{request.name} was not submitted. {self.scheduler.name} says: {refusal.words}\n"
                    f"    submission: {shlex.join(self.scheduler.command(request))}"
                ],
                {*members(rest)},
            )
            return
        self.logger.info(f"Submitted as {self.scheduler.name} job {job_id} (log: {record.log}).")
        self._watch(job, [replace(record, job_id=job_id)])

    def _send(self, record: Record, request: JobRequest) -> str:
        """Submit, again after a pause where that may help, and write the id down. Runs in the submitting thread."""
        pause_s, tries = 2.0, 0
        while not self._leaving.is_set():
            try:
                return record.submitted_as(self.scheduler.submit(request)).job_id
            except SubmitFailed as refusal:
                tries += 1
                if not refusal.transient or tries > self.settings.submit_retries:
                    if refusal.transient and tries > 1:
                        raise SubmitFailed(f"{refusal.words}, {tries} times in a row", transient=True) from refusal
                    raise
                self.logger.warning(
                    f"{self.scheduler.name} took no job: {refusal.words}. Trying again in {pause_s:.0f} s."
                )
                self._leaving.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise SubmitFailed("Snakemake is ending", transient=True)

    def _watch(self, job: Job, records: list[Record]) -> None:
        self._watched[job] = [self._watch_of(record) for record in records]
        info = SubmittedJobInfo(job, external_jobid=" ".join(record.job_id for record in records))
        self.report_job_submission(info, register_job=False)

    def _watch_of(self, record: Record) -> Watch:
        """The one watch of a submission: several jobs of this call may wait for one of an earlier call."""
        new = Watch(record, self.scheduler.name, self.settings.polls_until_lost)
        return self._watches.setdefault(record.folder, new)

    def _jobs_of_earlier_calls(self) -> list[Record]:
        """Found once, before the first submission of this call."""
        if self._earlier is None:
            try:
                self._earlier = resume.still_running(
                    self.journal, self.scheduler, self.settings.polls_until_lost, BORN, self.logger.warning
                )
            except resume.Unsettled as error:
                raise WorkflowError(str(error)) from None
        return self._earlier

    # The job script.

    def _script(self, job: Job, request: JobRequest) -> str:
        return render(
            JobScript(
                title=f"{request.name}: {', '.join(_targets(job)[:3])}{', …' if len(_targets(job)) > 3 else ''}",
                plugin=self.plugin,
                folder=request.script.parent,
                workdir=self.workdir,
                command=self.format_job_exec(job),
                bin=Path(sys.executable).parent,
                setup=self.settings.setup or [],
                environment=self.envvars(),
                walltime_s=request.walltime_s,
                job_id=self.scheduler.job_id,
                job_end=self.scheduler.job_end,
            )
        )

    def format_job_exec(self, job: Job) -> str:
        """The command of the job script. In a group without --keep-incomplete, whatever the outer call was given.

        With it, the outputs of a failed point would stay and lose their markers, and the next call would run a part of
        a coupled point only.
        """
        command = str(super().format_job_exec(job))
        return command.replace(" --keep-incomplete ", " ", 1) if job.is_group() else command

    def get_snakefile(self) -> Path:
        """The base's file, but as a Path: Snakemake quotes those for the shell, and texts by Python's rules."""
        return Path(self.snakefile)

    @property
    def tmpdir(self) -> str:
        """The base's folder, relative: as an absolute path, quotes in the name of the working folder would break it."""
        return os.path.relpath(super().tmpdir)

    def get_python_executable(self) -> str:
        """Replaces the shell of the job script's background process, so that it gets the signals itself."""
        return f"exec {shlex.quote(super().get_python_executable())}"

    def get_job_args(self, job: Job) -> str:
        """The base's arguments, with enough cores for the group and what a nested Snakemake lacks by itself."""
        args = super().get_job_args(job)
        inside = format_cli_arg("--cores", nested_cores(job))
        own = format_cli_arg("--cores", self.cores)
        resources = [f"{name}={value}" for name, value in limits(job, self.workflow).items()]
        # The folder's own profile is for the outer call: it would set limits, an executor and a logger once more.
        return (
            f"{args.replace(own, inside, 1)} {format_cli_arg('--resources', resources)} "
            "--keep-going --profile none --workflow-profile none"
        )

    def _show_all(self) -> None:
        """Print what would be submitted, and end. No rule has run: resources that hang on files may not be known."""
        dag = self.workflow.dag
        seen = {dag.get_job_group(job) or job: None for job in dag.needrun_jobs()}
        shown = [job for job in seen if not job.is_local]
        for job in shown:
            if job.is_group():
                job.finalize()
            folder = self.journal.folder / "SUBMISSION"
            need = demand(job, self.settings.min_walltime)
            request = replace(need, script=folder / "script.sh", output=folder / "output.txt")
            print(f"# {shlex.join(self.scheduler.command(request))}\n{self._script(job, request)}", flush=True)  # noqa: T201
        print(f"# {len(shown)} job scripts; nothing was submitted and nothing was run.", flush=True)  # noqa: T201
        raise SystemExit(0)

    # Watching.

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Ask once for all jobs; report those that have ended."""
        if not active_jobs:
            return
        open_ones = {
            watch.record.folder: watch
            for info in active_jobs
            for watch in self._watched[info.job]
            if watch.good is None
        }
        states = self._ask(list(open_ones.values()))
        for watch in open_ones.values():
            self._look(watch, states)
        for info in active_jobs:
            watches = self._watched[info.job]
            if any(watch.good is None for watch in watches):
                yield info
            else:
                await self._conclude(info, watches)

    def _ask(self, watches: list[Watch]) -> dict[str, State] | None:
        """The states of these jobs, or None where the batch system did not answer; a long silence is said."""
        if not watches:
            return {}
        now = time.monotonic()
        try:
            states = dict(self.scheduler.states([watch.record.job_id for watch in watches]))
        except NoAnswer as silence:
            self._silent_since = self._silent_since or now
            quiet_s = now - self._silent_since
            if quiet_s > self.settings.poll_seconds and now - self._said_silence > SAY_SILENCE_EVERY_S:
                self._said_silence = now
                self.logger.warning(
                    f"{self.scheduler.name} has not said how the jobs are for {quiet_s:.0f} s ({silence}). They are "
                    "taken to be running; asking goes on."
                )
            return None
        self._silent_since = self._said_silence = 0.0
        return states

    def _look(self, watch: Watch, states: dict[str, State] | None) -> None:
        state = None if states is None else states.get(watch.record.job_id)
        if news := watch.look(state, answered=states is not None):
            self.logger.warning(f"{self.scheduler.name} {news}.")
        if watch.never:
            try:
                self.scheduler.cancel([watch.record.job_id])
            except NoAnswer as silence:
                watch.message += f"\n    It could not be deleted ({silence}): delete it yourself"
        if watch.good is not None:
            watch.record.close(
                watch.message or "ended well", remove=watch.good and not self.settings.keep_successful_logs
            )

    async def _conclude(self, info: SubmittedJobInfo, watches: list[Watch]) -> None:
        job = info.job
        records = [watch.record for watch in watches]
        resumed = not records or any(record in (self._earlier or []) for record in records)
        bad = [watch.message for watch in watches if not watch.good]
        del self._watched[job]
        uncovered = (
            bool(records)
            and resumed
            and not {*_targets(job)} <= {target for record in records for target in record.targets}
        )
        waiting = set(members(job))
        if job.is_group() and (bad or uncovered):
            waiting = await unfinished(job)
        if uncovered and waiting and not bad:
            self.logger.info("What those jobs did not make is submitted now.")
            self._submit(job, part(job, waiting))
        elif bad and (waiting or not resumed):
            self._report(job, bad, waiting, info)
        else:
            self.report_job_success(info)

    def _report(self, job: Job, messages: list[str], waiting: set[Job], info: SubmittedJobInfo | None = None) -> None:
        # Snakemake shows the message of a single job and keeps that of a group to itself.
        for message in messages if job.is_group() else messages[1:]:
            self.logger.error(message)
        done = len(members(job)) - len(waiting)
        if done:
            self.logger.info(f"{done} of its {len(members(job))} jobs had finished: their results stay.")
        self._failures.narrow(job, waiting)
        self.report_job_error(info or SubmittedJobInfo(job), msg=messages[0] + "\n")

    def handle_job_error(self, job: Job) -> None:
        """Snakemake has removed what is unfinished."""
        self._failures.settle(job)

    async def sleep(self) -> None:
        """Until the next poll, or until Snakemake ends."""
        deadline = time.monotonic() + self.settings.poll_seconds
        while self.wait and time.monotonic() < deadline:
            await asyncio.sleep(min(0.2, self.settings.poll_seconds))

    # The end.

    def cancel(self) -> None:
        """Ctrl-C: also what a poll is looking at, which the base class does not see, and what is being submitted."""
        self.cancel_jobs([SubmittedJobInfo(job) for job in list(self._watched)])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel these jobs and those that are being submitted, by one request."""
        self._leaving.set()
        with contextlib.suppress(TimeoutError):
            # One thread submits, one after another: when this is done, the running qsub is.
            self._submitter.submit(int).result(timeout=CANCEL_PATIENCE_S)
        watches = [watch for info in active_jobs for watch in self._watched.get(info.job, []) if watch.good is None]
        records = {watch.record.job_id: watch.record for watch in watches}
        for record in self.journal.own():
            if record.job_id:
                records[record.job_id] = record
            else:
                record.give_up()  # if it is taken after all, it ends as soon as it starts
                record.close("cancelled before it was submitted")
        self._cancel(records)

    def _cancel(self, records: dict[str, Record]) -> None:
        if not records:
            return
        for record in records.values():
            with contextlib.suppress(OSError):  # a full disk is no reason to leave jobs running
                replace(record, cancelled=True).write()
        deadline = time.monotonic() + CANCEL_PATIENCE_S
        while True:
            try:
                self.scheduler.cancel(list(records))
                self.logger.info(f"Cancelled {self.scheduler.name} jobs: {' '.join(records)}.")
                return
            except NoAnswer as silence:
                if time.monotonic() > deadline:
                    self.logger.error(
                        f"{self.scheduler.name} jobs could not be cancelled ({silence}): {' '.join(records)}. End them "
                        "yourself."
                    )
                    return
                time.sleep(CANCEL_PAUSE_S)

    def shutdown(self) -> None:
        """Stop polling and submitting."""
        self._leaving.set()
        super().shutdown()
        self._submitter.shutdown(wait=False)


def _targets(job: Job) -> list[str]:
    """Snakemake's names for what this job makes, the same in every call."""
    return sorted(encode_target_jobs_cli_args(job.get_target_spec()))
