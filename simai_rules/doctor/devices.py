"""The processor, its memory, and the GPUs with what drives them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from simai_rules.doctor.finding import Finding, answer, first_line, last_line, pip

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
    "dpnp": (
        "import dpctl; import sys; names = [d.name for d in dpctl.get_devices(device_type='gpu')]; "
        "print('dpctl ' + dpctl.__version__ + ': ' + (', '.join(names) or 'no GPU')); sys.exit(not names)"
    ),
}
_INDEX = " --index-url https://download.pytorch.org/whl/"
_INDEXES = {"NVIDIA": "", "AMD": f"{_INDEX}rocm6.4", "Intel": f"{_INDEX}xpu"}
"""Where torch's wheels for the GPUs of a maker are; pip's own index has those for NVIDIA's."""
_OLD_DRIVER = f"{_INDEX}cu126"
_CUDA_13 = 580
"""The first NVIDIA driver for CUDA 13: docs.nvidia.com, CUDA Toolkit Release Notes."""


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
        yield _arrays("dpnp" if maker == "Intel" else "CuPy", _package(maker))


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
    intel = 0
    for file in Path("/sys/class/drm").glob("renderD*/device/vendor"):
        with suppress(OSError):
            intel += file.read_text().strip() == "0x8086"
    if intel:
        found["Intel"] = f"{intel} render nodes"
    return found


def _torch(gpus: dict[str, str]) -> Finding:
    index = next((_INDEXES[maker] for maker in gpus), "")
    if not _installed("torch"):
        get = pip(f"install torch{index}" if index else "install 'simai-rules[torch]'")
        return Finding("torch", "wrong", "not installed; every training needs it", get)
    # pip would leave what is installed as it is.
    again = f"{pip('uninstall -y torch')} && {pip('install torch')}"
    code, text = answer([sys.executable, "-c", _TORCH])
    if code:
        return Finding("torch", "wrong", f"cannot be used: {last_line(text)}", again + index)
    if gpus and "the CPU alone" in text:
        older = "NVIDIA" in gpus and "though built for CUDA" in text
        seen = f"{text}, although there are GPUs here" + (" (with a driver older than that CUDA?)" if older else "")
        return Finding("torch", "wrong", seen, again + (_OLD_DRIVER if older else index))
    return Finding("torch", "ok", text)


def _arrays(name: str, package: str) -> Finding:
    code, text = answer([sys.executable, "-c", _ARRAYS[name]])
    if code == 0:
        return Finding(name, "ok", first_line(text))
    get = package if " " in package else pip(f"install '{package}'")
    if name == "CuPy" and "No module named" not in text:  # one for another CUDA: two of them do not go together
        installed = [other for other in ("cupy-cuda12x", "cupy-cuda13x", "cupy") if _installed(other)]
        get = f"{pip('uninstall -y ' + ' '.join(installed))} && {get}" if installed else get
    return Finding(name, "missing", f"kernels cannot use the GPU: {last_line(text)}", get)


def _package(maker: str) -> str:
    """Return the package, or the command, that makes the GPUs of `maker` usable for kernels."""
    if maker == "Intel":
        return "dpnp"
    if maker == "NVIDIA":
        return "cupy-cuda13x[ctk]" if _nvidia_driver() >= _CUDA_13 else "cupy-cuda12x[ctk]"
    with suppress(OSError):
        if Path("/opt/rocm/.info/version").read_text().startswith("7."):
            return "cupy-rocm-7-0"
    # docs.cupy.dev/en/stable/install.html: there are no wheels for other versions.
    source = "CUPY_INSTALL_USE_HIP=1 ROCM_HOME=/opt/rocm HCC_AMDGPU_TARGET=$(rocm_agent_enumerator | tail -1)"
    return f"{source} {pip('install cupy')}"


def _nvidia_driver() -> int:
    """Return the first number of the driver's version, 0 where it is not known."""
    _, text = answer(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    number = text.partition(".")[0]
    return int(number) if number.isdecimal() else 0


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
    unit, name = (2**30, "GiB") if usage.total >= 2**30 else (2**20, "MiB")
    return f"{usage.free / unit:.1f} of {usage.total / unit:.1f} {name} free"
