"""This process's place in a Dragon runtime that did not start it: at most one, shared by all its DataStores."""

import os
from contextlib import suppress
from time import perf_counter_ns
from typing import Any

from simai_rules.errors import MissingProgram
from simai_rules.process import Process
from simai_rules.staging.errors import ServerLost, StagingError
from simai_rules.staging.info import ServerInfo

_CLIENT = "SIMAI_RULES_DRAGON_CLIENT"
"""The environment variable in which an attached process leaves its pid for those that it starts."""


_CHECK_EVERY_NS = 10**8


class Attachment:
    """One attached runtime; it counts those who use it and leaves with the last."""

    current: "Attachment | None" = None

    def __init__(self, info: ServerInfo, deadline_ns: int) -> None:
        address = info.address
        self.run_id, self.pid, self._users = info.run_id, os.getpid(), 0
        self._checked_ns = 0
        self._launcher = Process(*address["process"])
        self.where = f"dragon runtime of process {self._launcher.pid}"
        _forget_inherited()
        try:
            from dragon.infrastructure.messages import parse
            from dragon.utils import b64decode
            from dragon.workflows import runtime
        except ImportError as error:
            raise MissingProgram(
                f"The Python package dragonhpc cannot be imported ({error}). Install it where the components run, with "
                "a Python that it has a wheel for (3.10 to 3.13): pip install 'simai-rules[dragon]'"
            ) from error
        self.check()
        try:
            self._runtime: Any = runtime.attach(
                timeout=seconds_until(deadline_ns),
                runtime=runtime.LocalRuntime(
                    attach_descr=parse(b64decode(address["runtime"])), auth_token=str(address["token"])
                ),
            )
        except Exception as error:
            self.check()
            raise ServerLost(
                f"The {self.where} cannot be attached to ({type(error).__name__}: {first_line(error)}). Check that "
                "server.json is the one of the run that is going on, and that this process is on the server's node."
            ) from error
        os.environ[_CLIENT] = str(self.pid)

    @classmethod
    def use(cls, info: ServerInfo, deadline_ns: int) -> "Attachment":
        """Return the attachment of this process to the runtime of `info`, made if there is none.

        Raises ServerLost where the runtime is gone, StagingError where this process is in another one.
        """
        found = cls.current
        if found is not None and found.pid != os.getpid():
            raise StagingError(
                "This process was forked from one that stages with dragon, which Dragon does not allow. Close that "
                "process's DataStores before it forks and open new ones, or start processes by spawn."
            )
        if found is not None and found.run_id != info.run_id:
            if found.alive:
                raise StagingError(
                    f"This process stages with the dragon runtime of run {found.run_id}, and a process can be in one "
                    "at a time. Close the DataStores of that run first."
                )
            found._abandon()
            found = None
        if found is None:
            found = cls.current = cls(info, deadline_ns)
        found.check()
        found._users += 1
        return found

    @property
    def alive(self) -> bool:
        """Whether the runtime's first process is there."""
        return self._launcher.alive

    def check_often(self) -> None:
        """Do as `check`, but not again within a tenth of a second: a look takes as long as a small message."""
        now = perf_counter_ns()
        if now - self._checked_ns > _CHECK_EVERY_NS:
            self.check()
            self._checked_ns = now

    def check(self) -> None:
        """Raise ServerLost if the runtime has gone or is halted."""
        if not self.alive:
            raise ServerLost(f"The {self.where} has ended. See the log of the staging server.")
        if self._launcher.stopped:
            raise ServerLost(f"The {self.where} is halted (SIGSTOP). See the log of the staging server.")

    def release(self) -> None:
        """Leave the runtime if nobody uses it any more."""
        self._users -= 1
        if self._users or Attachment.current is not self or self.pid != os.getpid():
            return
        Attachment.current = None
        if self.alive and not self._launcher.stopped:
            self._detach()
        else:
            self._abandon()

    def _detach(self) -> None:
        with suppress(Exception):  # a runtime that ends meanwhile has nothing to be detached from
            self._runtime.detach()
        os.environ.pop(_CLIENT, None)

    def _abandon(self) -> None:
        """Forget a runtime that cannot be asked any more, so that this process can be in another one."""
        from dragon.globalservices import api_setup

        Attachment.current = None
        with suppress(Exception):
            api_setup.disconnect_infrastructure()
        with suppress(Exception):
            self._runtime._pool.detach()
        with suppress(Exception):
            self._runtime._restore_pre_attach_process_state()
        os.environ.pop(_CLIENT, None)


def seconds_until(deadline_ns: int) -> float:
    """Return the seconds that are left, at least one millisecond: Dragon takes 0 as a look without waiting."""
    return max(0.001, (deadline_ns - perf_counter_ns()) / 1e9)


def first_line(error: BaseException) -> str:
    """Return an error's text without the traceback that Dragon puts into it."""
    return (str(error).splitlines() or [""])[0]


def _forget_inherited() -> None:
    """Remove what an attached process that started this one has left in the environment: this one is not attached."""
    if os.environ.get(_CLIENT, str(os.getpid())) != str(os.getpid()):
        for name in [name for name in os.environ if name.startswith("DRAGON_")]:
            del os.environ[name]
        del os.environ[_CLIENT]
