"""What is left of the memory is what the node or a control group leaves, whichever is less."""

import pytest

from simai_rules.kernels.devices import memory

GB = 10**9


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Make a node with `free_kb` free and groups of (limit, usage, cached) bytes, of either version of cgroups."""

    def make(free_kb, groups=(), version=2):
        (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:  {free_kb} kB\n")
        lines = ["12:cpu,cpuacct:/", "4:memory:/a/b" if version == 1 else "0::/a/b"]
        (tmp_path / "groups").write_text("\n".join(lines))
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        for path, (limit, usage, cached) in zip(("a/b", "a"), groups, strict=False):
            folder = tmp_path / "fs" / ("" if version == 2 else "memory") / path
            folder.mkdir(parents=True, exist_ok=True)
            (folder / names[0]).write_text(f"{limit}\n")
            (folder / names[1]).write_text(f"{usage}\n")
            total = "total_" if version == 1 else ""
            stat = f"anon 5\n{total}inactive_file {cached}\n{total}active_file 0\n"
            (folder / "memory.stat").write_text(stat)
        monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(memory, "_MOUNT", tmp_path / "fs")

    return make


def test_without_a_limit(node):
    node(8_000_000)
    assert memory.available() == 8_000_000 * 1024
    node(8_000_000, [("max", GB, 0)])
    assert memory.available() == 8_000_000 * 1024


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_or_one_above_it_leaves_less(node, version):
    node(8_000_000, [(4 * GB, 3 * GB, GB)], version)
    assert memory.available() == 2 * GB  # cached files make room
    node(8_000_000, [(4 * GB, 3 * GB, GB), (5 * GB, 4 * GB, 0)], version)
    assert memory.available() == GB
    node(8_000_000, [(4 * GB, 6 * GB, GB)], version)
    assert memory.available() == 0


def test_the_first_version_says_no_limit_by_a_large_number(node):
    node(8_000_000, [(2**63 - 4096, GB, 0)], version=1)
    assert memory.available() == 8_000_000 * 1024


def test_here():
    assert 0 < memory.available() < 2**50
