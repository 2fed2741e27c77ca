"""Logs of runs that never were, with known times."""

import numpy as np


def lognormal(count, median=0.0315, sigma=0.05, seed=0):
    return np.random.default_rng(seed).lognormal(np.log(median), sigma, count)


def two_modes(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(count) < 0.2, rng.normal(0.02, 0.0008, count), rng.normal(0.012, 0.0004, count))


def csv_text(times, name="time_s"):
    return f"step,{name}\n" + "".join(f"{number},{float(time)!r}\n" for number, time in enumerate(times))


def nekrs_text(times, *, lines=1):
    """As nekRS has it since version 23 (one line per step) and 24 (two lines)."""
    sums = np.cumsum(times)
    text = "using NVIDIA GPU\nloading kernels\n"
    for number, (time, until) in enumerate(zip(times, sums, strict=True), 1):
        text += "  P        : iter 003  resNorm0 2.21e-03  resNorm 7.00e-08\n"
        head = f"step= {number}  t= {number * 1e-3:.8e}  dt=1.0e-03  C= 0.483"
        timing = f"elapsedStep= {time:.2e}s  elapsedStepSum= {until:.5e}s\n"
        text += f"{head}  UVW: 3  P: 5  {timing}" if lines == 1 else f"{head}\nstep={number:<8d} {timing}"
    return text


def darshan_text(gaps, write=0.5, *, ranks=4, nbytes=8_000_000, files_per_burst=1):
    """What darshan-parser prints for a run that writes `nbytes` in each burst, `write` seconds long, after each gap."""
    records, now = [], 0.0
    for burst, gap in enumerate(gaps):
        now += gap
        for part in range(files_per_burst):
            name = f"/scratch/out.{burst}.{part}"
            values = {
                "POSIX_OPENS": 1,
                "POSIX_BYTES_READ": 0,
                "POSIX_BYTES_WRITTEN": nbytes // files_per_burst,
                "POSIX_F_OPEN_START_TIMESTAMP": now,
                "POSIX_F_WRITE_START_TIMESTAMP": now,
                "POSIX_F_WRITE_END_TIMESTAMP": now + write,
                "POSIX_F_WRITE_TIME": write,
            }
            rank = -1 if files_per_burst == 1 else part
            records += [f"POSIX\t{rank}\t{burst * 100 + part}\t{counter}\t{value:.6f}\t{name}\t/scratch\tlustre"
                        for counter, value in values.items()]  # fmt: skip
        now += write
    out = {"STDIO_BYTES_WRITTEN": 5000, "STDIO_F_WRITE_START_TIMESTAMP": 0.1, "STDIO_F_WRITE_END_TIMESTAMP": now}
    records += [f"STDIO\t0\t1\t{counter}\t{value}\t<STDOUT>\tUNKNOWN\tUNKNOWN" for counter, value in out.items()]
    records += [f"STDIO\t0\t2\t{counter}\t{value}\t/home/me/run.log\t/home\text4" for counter, value in out.items()]
    header = ["# darshan log version: 3.41", "# exe: ./code in.par", f"# nprocs: {ranks}", f"# run time: {now:.4f}"]
    return "\n".join([*header, "", "#<module>\t<rank>\t<record id>\t<counter>\t<value>\t<file name>", *records, ""])
