"""A kernel of the user's own, by import path: `package.module:function`.

The function is called once, with the Setup (base.py), and returns what is called for each unit of work, without
arguments. So operands are allocated and filled before anything is timed:

    def smoothing(setup):
        x = setup.rng.random(setup.shape).astype(setup.dtype)
        y = x.copy()
        def work():
            y[1:-1] = 0.5 * (x[:-2] + x[2:])
        work.flops, work.nbytes = 2 * x.size, 3 * x.nbytes
        return work

`flops` and `nbytes` of what it returns are optional numbers; so is `collective = True`, which says that all ranks of
`setup.comm` have to call it equally often. `setup.config.arguments` holds the config's `arguments`. The module is
looked for where Python looks, and in the folder that the run was started in.
"""

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, Setup
from simai_rules.kernels.comm import agree


def find(path: str) -> Callable[[Setup], Any]:
    """Return the function at `package.module:function`; raises UserError where there is none."""
    module, _, name = path.partition(":")
    here = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = import_module(module)
        where = getattr(found, "__file__", module)
    except (Exception, SystemExit) as error:  # a program that is no module may end when it is imported
        cause = f"{type(error).__name__}: {error}"
        raise UserError(
            f"kernel {path}: module {module} cannot be imported ({cause}). It has to be installed, on PYTHONPATH, or "
            f"in {here}."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"kernel {path}: {module} ({where}) has no {name}.")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"kernel {path}: {name} is a {type(found).__name__}, not a function.")
    return found  # type: ignore[no-any-return]


class Own(Kernel):
    """What the user's function returns."""

    def _check(self, setup: Setup) -> None:
        super()._check(setup)
        find(self.name)

    def _prepare(self, setup: Setup) -> None:
        function = find(self.name)
        try:
            work = function(setup)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(
                f"kernel {self.name}: the function failed{_where(error)} with {type(error).__name__}: {error}. It is "
                "called with the kernel's Setup (simai_rules/kernels/own.py shows one)."
            ) from error
        if not callable(work):
            raise UserError(
                f"kernel {self.name}: the function returned a {type(work).__name__}. It has to return what does the "
                "work: something to call without arguments."
            )
        self._work = work
        self._comm = setup.comm
        self.collective = bool(getattr(work, "collective", False))

    def work(self) -> None:
        """Do the user's work once; raises UserError with what it raises, and where."""
        try:
            self._work()
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(
                f"kernel {self.name}: a call failed{_where(error)} with {type(error).__name__}: {error}."
            ) from error

    def flops(self) -> float:
        """What the user says, or 0."""
        return float(getattr(self._work, "flops", 0))

    def nbytes(self) -> int:
        """What the user says, or 0."""
        return int(getattr(self._work, "nbytes", 0))

    def memory(self) -> int:
        """0: unknown."""
        return 0

    def agree(self, number: int) -> int:
        """Return the largest `number` of all ranks if it is collective."""
        return agree(self._comm, number) if self.collective else number

    def agree_least(self, number: int) -> int:
        """Return the smallest `number` of all ranks if it is collective."""
        return -agree(self._comm, -number) if self.collective else number


def _where(error: BaseException) -> str:
    """Return the place in the user's code at which it failed: the frame that this module called."""
    frames = traceback.extract_tb(error.__traceback__)[1:2]
    return "".join(f" at {frame.filename}:{frame.lineno}" for frame in frames)
