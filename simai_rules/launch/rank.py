"""What every launcher starts: `python -m simai_rules.launch.rank PROGRAM ARGS…`. It becomes PROGRAM.

Before that it finds out which rank it is, names the rank's node, shows it its GPUs and binds it to its cores where the
launcher has not. Ranks are in blocks: with n ranks per node, rank r is local rank r % n of node SIMAI_HOSTS[r // n].
Only the standard library is imported, so that it is quick and no thread is there before the binding.
"""

import json
import os
import platform
import signal
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from simai_rules.errors import UserError

# Where each launcher says a process's rank and local rank. One may run inside of another, whose variables are then
# there too, so that the one that was used has to be told.
RANK_VARIABLES = {
    "openmpi": (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"), ("PMIX_RANK", "")),
    "hydra": (("PMI_RANK", "MPI_LOCALRANKID"),),
    "pals": (("PALS_RANKID", "PALS_LOCAL_RANKID"), ("PMI_RANK", "PMI_LOCAL_RANK")),
    "srun": (("SLURM_PROCID", "SLURM_LOCALID"),),
}
GPU_VARIABLES = ("ZE_AFFINITY_MASK", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_MISPLACED = "SIMAI_MISPLACED"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def main(argv: Sequence[str]) -> int:
    """Become the program in `argv` (after `--launcher FLAVOUR`, if given) as a rank; return only where that fails.

    Where the rank is not what was placed, programs of simai-rules are started all the same: they say it (see
    `raise_if_misplaced`), in the run's folder too, and end the other ranks.
    """
    launcher, program = (argv[1], list(argv[2:])) if argv[:1] == ["--launcher"] else ("", list(argv))
    try:
        try:
            prepare(os.environ, launcher)
        except UserError as error:
            if not any(word.startswith("simai_rules.") for word in program):
                raise
            os.environ[_MISPLACED] = str(error)
        os.execvp(program[0], program)  # noqa: S606 - an argument list, and no shell
    except UserError as error:
        sys.stderr.write(f"simai-rules: {error}\n")
    except OSError as error:
        sys.stderr.write(f"simai-rules: {program[0]} cannot be started on {platform.node()}: {error.strerror}\n")
    sys.stderr.flush()
    if int(os.environ.get("SIMAI_SIZE", "1")) > 1:
        # With an exit code Hydra would leave the other ranks waiting for this one, in MPI's initialization; not so with
        # a signal.
        os.kill(os.getpid(), signal.SIGTERM)
    return 1


def raise_if_misplaced(environment: Mapping[str, str]) -> None:
    """Raise UserError where the wrapper has found that this rank is not what was placed."""
    if _MISPLACED in environment:
        raise UserError(environment[_MISPLACED])


def prepare(environment: MutableMapping[str, str], launcher: str = "") -> None:
    """Write into `environment` what this rank has to know, and bind this process to its cores.

    SIMAI_RANK, SIMAI_LOCAL_RANK, SIMAI_NODE, SIMAI_NODE_INDEX, the threads of BLAS and OpenMP for its cores, and the
    system's GPU variable. Raises UserError where it is no rank that was placed, or its cores cannot be had.
    """
    rank, local_rank = rank_of(environment, launcher)
    cores: list[list[int]] = json.loads(environment.get("SIMAI_CORES", "[[]]"))
    hosts: list[str] = json.loads(environment.get("SIMAI_HOSTS", "null")) or [platform.node()]
    index, local = divmod(rank, max(1, len(cores)))
    if index >= len(hosts) or not cores:
        raise UserError(
            f"rank {rank} on {platform.node()} has no cores: SIMAI_CORES names those of {len(cores)} ranks on each of "
            f"{len(hosts)} nodes ({', '.join(hosts)}). More ranks were started than were placed."
        )
    if local_rank not in (None, local):
        raise UserError(
            f"rank {rank} on {platform.node()} is local rank {local_rank} to its launcher, but {local} by its "
            f"placement: ranks have to be in blocks of {len(cores)} per node, in the order of {', '.join(hosts)}."
        )
    slurm_node = environment.get("SLURMD_NODENAME") if launcher == "srun" else None
    if slurm_node in hosts and slurm_node != hosts[index]:
        raise UserError(
            f"rank {rank} is on {slurm_node}, but on {hosts[index]} by its placement: srun takes the nodes in the "
            f"order of the allocation, whatever the order of {', '.join(hosts)}."
        )
    environment["SIMAI_LAUNCHER"] = launcher
    environment["SIMAI_RANK"], environment["SIMAI_LOCAL_RANK"] = str(rank), str(local)
    environment["SIMAI_NODE"], environment["SIMAI_NODE_INDEX"] = hosts[index], str(index)
    gpus: list[list[str]] = json.loads(environment.get("SIMAI_GPUS", "[]"))
    if gpus and gpus[local]:
        environment[environment["SIMAI_GPU_VARIABLE"]] = ",".join(gpus[local])
    if cores[local]:
        environment.update(dict.fromkeys(THREAD_VARIABLES, str(len(cores[local]))))
        _bind(cores[local], f"rank {rank} on {hosts[index]}")


def rank_of(environment: Mapping[str, str], launcher: str = "") -> tuple[int, int | None]:
    """Return the rank of this process and its local rank (None: not told) by `launcher`, or by whichever has told."""
    flavours = [launcher] if launcher else RANK_VARIABLES
    for rank, local_rank in (pair for flavour in flavours for pair in RANK_VARIABLES[flavour]):
        if rank in environment:
            return int(environment[rank]), int(environment[local_rank]) if local_rank in environment else None
    return 0, None


def asked(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the cores and GPUs that this rank was placed on; {} in a process that was not placed.

    {"cores": [1, 2], "gpus": {"ZE_AFFINITY_MASK": "0.0"}}, each where it was given any.
    """
    if "SIMAI_LOCAL_RANK" not in environment or "SIMAI_CORES" not in environment:
        return {}
    local = int(environment["SIMAI_LOCAL_RANK"])
    cores = json.loads(environment["SIMAI_CORES"])[local]
    gpus = json.loads(environment.get("SIMAI_GPUS", "[]"))
    found: dict[str, Any] = {"cores": sorted(cores)} if cores else {}
    if gpus and gpus[local]:
        found["gpus"] = {environment["SIMAI_GPU_VARIABLE"]: ",".join(gpus[local])}
    return found


def observed(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what this process has of it: the cores that it may use, and the GPU variables that it sees."""
    gpus = {name: environment[name] for name in GPU_VARIABLES if name in environment}
    return {"cores": sorted(os.sched_getaffinity(0)), "gpus": gpus}


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return in words where `observed` differs from `asked`."""
    told = []
    if wanted.get("cores", found["cores"]) != found["cores"]:
        told.append(f"placed on cores {wanted['cores']}, runs on {found['cores']}")
    for name, value in wanted.get("gpus", {}).items():
        if found["gpus"].get(name) != value:
            told.append(f"placed on {name}={value}, sees {found['gpus'].get(name, 'none set')}")
    return told


def _bind(cores: Sequence[int], who: str) -> None:
    """Bind this process to `cores` if the launcher has not, and say on stderr where it runs on others in the end."""
    wanted = set(cores)
    before = os.sched_getaffinity(0)
    if before == wanted:
        return
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        raise UserError(
            f"{who} cannot be bound to cores {sorted(wanted)}: {error.strerror}. This process may use cores "
            f"{sorted(before)}; check cores and reserved_cores in system.yaml."
        ) from error
    # The kernel leaves out, without an error, what the job's cgroup does not allow.
    if (after := os.sched_getaffinity(0)) != wanted:
        sys.stderr.write(f"simai-rules: warning: {who} was placed on cores {sorted(wanted)} and got {sorted(after)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
