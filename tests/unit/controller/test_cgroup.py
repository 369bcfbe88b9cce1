"""Limits of control groups: unified, older, hybrid, and as a container sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mem_profiler.process import cgroup
from mem_profiler.segment import bound

MIB = 1 << 20


class Machine:
    """A tree of groups and one process, 7, in them."""

    def __init__(self, folder: Path) -> None:
        self.root, self.proc = folder / "cgroup", folder / "proc"
        (self.proc / "7").mkdir(parents=True)

    def process(self, *lines: str) -> None:
        (self.proc / "7" / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def limit(self, path: str, text: object) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{text}\n")

    def found(self) -> int | None:
        return cgroup.limit_bytes(7, self.root, self.proc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


TREES = {
    "the unified hierarchy": (["0::/a/b"], {"a/b/memory.max": 64 * MIB}, 64),
    "the limit of a group above": (
        ["0::/a/b/c"],
        {"a/b/c/memory.max": "max", "a/b/memory.max": 200 * MIB, "a/memory.max": 32 * MIB}, 32,
    ),
    "the older hierarchy": (
        ["9:cpu,cpuacct:/x", "4:freezer,memory:/a", "1:name=systemd:/y"],
        {"memory/a/memory.limit_in_bytes": 48 * MIB,
         "memory/memory.limit_in_bytes": 0x7FFFFFFFFFFFF000}, 48,
    ),
    "both at once": (
        ["4:memory:/a", "0::/b"],
        {"memory/a/memory.limit_in_bytes": 48 * MIB, "unified/b/memory.max": 40 * MIB}, 40,
    ),
    "a container whose path is the host's": (
        ["4:memory:/docker/0123", "0::/docker/0123"],
        {"memory/memory.limit_in_bytes": 96 * MIB}, 96,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "limits", "mib"), TREES.values(), ids=TREES)
def test_the_lowest_limit_holds(
    machine: Machine, lines: list[str], limits: dict[str, object], mib: int
) -> None:
    machine.process(*lines)
    for path, text in limits.items():
        machine.limit(path, text)
    assert machine.found() == mib * MIB


def test_the_use_is_that_of_the_group_whose_limit_holds(machine: Machine) -> None:
    def use() -> tuple[int, int | None] | None:
        found = cgroup.use(7, machine.root, machine.proc)
        return None if found is None else (found.limit_bytes, found.used_bytes)

    machine.process("0::/a/b")
    machine.limit("a/b/memory.max", "max")
    machine.limit("a/b/memory.current", 20 * MIB)
    assert use() is None
    machine.limit("a/memory.max", 64 * MIB)
    assert use() == (64 * MIB, None), "of an older kernel"
    machine.limit("a/memory.current", 50 * MIB)
    assert use() == (64 * MIB, 50 * MIB)
    # File pages that go first are no reason to end a process.
    machine.limit("a/memory.stat", f"anon 1\ninactive_file {30 * MIB}\nactive_file 5")
    assert use() == (64 * MIB, 20 * MIB)
    # The same limit inside: it is charged with less.
    machine.limit("a/b/memory.max", 64 * MIB)
    machine.limit("a/b/memory.current", 10 * MIB)
    assert use() == (64 * MIB, 20 * MIB)
    machine.process("0::/../a/b")
    assert use() is None, "a container beside ours"

    machine.process("4:memory:/x")
    machine.limit("memory/x/memory.limit_in_bytes", 32 * MIB)
    machine.limit("memory/x/memory.usage_in_bytes", 16 * MIB)
    machine.limit("memory/x/memory.stat", f"inactive_file 1\ntotal_inactive_file {4 * MIB}")
    assert use() == (32 * MIB, 12 * MIB)


@pytest.mark.parametrize("text", ["", "nonsense", "-5", "0x10", "9" * 40])
def test_what_makes_no_sense_is_no_limit(machine: Machine, text: str) -> None:
    machine.process("0::/a")
    machine.limit("a/memory.max", text)
    assert machine.found() is None


def test_a_path_does_not_lead_out_of_the_tree(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1\n")
    machine.process("0::/../..")
    assert machine.found() is None


def test_the_bound_is_a_share_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {7: 64 * MIB, 8: None, 9: MIB}
    monkeypatch.setattr(cgroup, "limit_bytes", limits.__getitem__)
    assert bound.of_process(7) == 4 * MIB, "not asked for"
    assert bound.of_process(8) == 256 * MIB
    assert bound.of_process(9) == MIB
    monkeypatch.setenv(bound.VARIABLE, "1g")
    assert bound.of_process(8) == 1 << 30
    assert bound.of_process(7) == 16 * MIB
