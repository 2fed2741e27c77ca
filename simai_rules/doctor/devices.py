"""The processor, its memory, and the GPUs with what drives them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from simai_rules.doctor.finding import Finding, answer, first_line, last_line

_TORCH = """
import json, torch
kinds = [kind for kind in ("cuda", "xpu") if hasattr(torch, kind) and getattr(torch, kind).is_available()]
found = {kind: [getattr(torch, kind).get_device_name(i) for i in range(getattr(torch, kind).device_count())]
         for kind in kinds}
built = "ROCm " + torch.version.hip if torch.version.hip else "CUDA " + torch.version.cuda if torch.version.cuda else ""
text = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in found.items())
print(f"torch {torch.__version__}: " + (text or f"the CPU alone{', though built for ' + built if built else ''}"))
"""
_ARRAYS = {
    "CuPy": "import cupy; n = cupy.cuda.runtime.getDeviceCount(); print(f'cupy {cupy.__version__}: {n} GPUs')",
    "dpnp": "import dpctl; print('dpctl ' + dpctl.__version__ + ': ' + ', '.join(d.name for d in dpctl.get_devices()))",
}
_INDEXES = {
    "NVIDIA": "pip install torch",
    "AMD": "pip install torch --index-url https://download.pytorch.org/whl/rocm6.4",
    "Intel": "pip install torch --index-url https://download.pytorch.org/whl/xpu",
}
_PACKAGES = {"NVIDIA": ("CuPy", "cupy-cuda12x"), "AMD": ("CuPy", "cupy-rocm-5-0"), "Intel": ("dpnp", "dpnp")}


def look() -> Iterator[Finding]:
    """Yield what was found about the processor, GPUs, torch and the array packages for GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    yield Finding("CPU", "ok", f"{_processor()}, {cores} of {os.cpu_count()} cores for this process, {memory:.0f} GiB")
    gpus = _gpus()
    text = "; ".join(f"{maker}: {seen}" for maker, seen in gpus.items())
    yield Finding("GPU", "ok", text) if gpus else Finding("GPU", "missing", "none seen on this node")
    yield _torch(gpus)
    for maker in gpus:
        yield _arrays(*_PACKAGES[maker])


def _gpus() -> dict[str, str]:
    """Return the GPUs that the kernel knows, by maker."""
    found = {}
    cards = sorted(Path("/dev").glob("nvidia[0-9]*"))
    if cards:
        code, text = answer(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
        lines = text.splitlines() if code == 0 else [card.name for card in cards]
        found["NVIDIA"] = ", ".join(line.strip() for line in lines)
    if Path("/dev/kfd").exists():
        found["AMD"] = "/dev/kfd"
    vendors = [file.read_text().strip() for file in Path("/sys/class/drm").glob("renderD*/device/vendor")]
    intel = vendors.count("0x8086")
    if intel:
        found["Intel"] = f"{intel} render nodes"
    return found


def _torch(gpus: dict[str, str]) -> Finding:
    remedy = next((_INDEXES[maker] for maker in gpus), "pip install 'simai-rules[torch]'")
    if not _installed("torch"):
        return Finding("torch", "missing", "not installed; a training needs it", remedy)
    code, text = answer([sys.executable, "-c", _TORCH])
    if code:
        return Finding("torch", "wrong", f"cannot be used: {last_line(text)}", remedy)
    if gpus and "the CPU alone" in text:
        return Finding("torch", "wrong", f"{text}, although there are GPUs here", remedy)
    return Finding("torch", "ok", text)


def _arrays(name: str, package: str) -> Finding:
    code, text = answer([sys.executable, "-c", _ARRAYS[name]])
    if code == 0:
        return Finding(name, "ok", first_line(text))
    return Finding(name, "missing", f"kernels cannot use the GPU: {last_line(text)}", f"pip install {package}")


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.machine()


def room(folder: Path) -> str:
    """Return how much room `folder` has, in words."""
    usage = shutil.disk_usage(folder)
    return f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free"
