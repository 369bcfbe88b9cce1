"""Events of device memory in a log, one by one as the stub driver's ledger has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import command_ok, wait_until
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.part import Part
from mem_parser.memlog.profiles import read_part
from mem_parser.memlog.run import read_log
from stub_driver import App, Ascend

pytestmark = pytest.mark.usefixtures("sampler")
FLAG_DEVICE = 1 << 10
MIB = 1 << 20
Event = tuple[str, str, int, int]
"""What happened, domain, address, bytes."""
NAMES = {Kind.BIRTH: "alloc", Kind.DEATH: "free", Kind.BACK: "back", Kind.REFUSED: "fail"}


@pytest.fixture(scope="module")
def program() -> Path:
    return Ascend.build("plain").program(linked=True)


def noted(app: App) -> list[Event]:
    """What the driver gave and took back, in its order."""
    found = []
    for line in app.ledger_path.read_text(encoding="ascii").splitlines():
        what, domain, key, size = line.split()
        if what != "fail":
            found.append((what, domain, int(key, 16), int(size)))
    return found


def logs_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.memlog"), key=lambda p: int(p.stem.rpartition("-")[2]))


def told(paths: list[Path]) -> list[Event]:
    """The events of devices in a log, in its order."""
    with read_log(paths) as run:
        names = run.file_facts.domains
        assert not run.holes
        found = Events.joined([Events.none(), *(e for f in run.files for e in f.events())])
    some = found.in_order()
    some = some.take((some.domain > 0) & (some.kind != Kind.MARK))
    rows = zip(
        some.kind.tolist(), some.domain.tolist(), some.address.tolist(), some.size_bytes.tolist(),
        strict=True,
    )  # fmt: skip
    return [(NAMES[Kind(kind)], names[domain], at, size) for kind, domain, at, size in rows]


def settled(events: list[Event]) -> Iterator[Event]:
    """Without blocks that were taken back at once, since the driver refused to free them, and
    without refusals.
    """
    for k, event in enumerate(events):
        after = events[k + 1] if k + 1 < len(events) else ("", "", 0, 0)
        refused = event[0] == "free" and after == ("back", *event[1:])
        if not refused and event[0] not in {"back", "fail"}:
            yield event


def start(app: App, folder: Path) -> None:
    command_ok("start", app.pid, "-c", "1", "--events", "-o", folder / "x")


def stop(app: App, folder: Path) -> list[Path]:
    command_ok("stop", app.pid, "-o", folder / "x")
    return logs_in(folder)


def test_each_block_of_a_device_is_in_the_log_as_the_driver_gave_it(
    segment_dir: Path, tmp_path: Path, program: Path
) -> None:
    lines = [
        "set 0", "malloc 0 1000", "align32 1 2000000", "rtmalloc 2 3000", "host 3 400",
        "managed 4 500", f"hal 5 600 {FLAG_DEVICE | 1}", "malloc 6 7000", "free 6",
        "rtmalloc 7 800", "halfree 7", "register 8 9000", "rtmalloc 9 77",
    ]  # fmt: skip
    failing = {"STUB_FAIL": "halMemFree:3"}
    with App((program, "link"), segment_dir, rate=None, variables=failing) as app:
        start(app, tmp_path)
        assert app.do(*lines) == [0] * len(lines)
        assert app.do("free 2") != [0], "the driver refuses"
        assert app.do("free 2", "rtfree 9") == [0, 0]
        assert app.do(f"align32 10 {1 << 36}") != [0]
        paths = stop(app, tmp_path)
        found, truth = told(paths), noted(app)
        assert list(settled(found)) == truth
        assert [one[0] for one in found].count("back") == 1
        assert [one[1:] for one in found if one[0] == "fail"] == [("hal-0", 0, 1 << 36)]
        app.finish()


def test_a_domain_that_appears_in_the_middle_begins_a_file(
    segment_dir: Path, tmp_path: Path, program: Path
) -> None:
    with App((program, "link"), segment_dir, rate=None) as app:
        start(app, tmp_path)
        assert app.do("set 0", "malloc 0 1000", "malloc 1 2000") == [0] * 3
        wait_until(lambda: bool(logs_in(tmp_path)) and len(told(logs_in(tmp_path))) == 2, "written")
        before = logs_in(tmp_path)
        assert app.do("set 1", "malloc 2 3000", "host 3 400", "free 0", "free 2") == [0] * 5
        paths = stop(app, tmp_path)
        assert len(paths) > len(before)
        assert told(paths) == noted(app)
        with read_log(paths) as run:
            assert set(run.file_facts.domains) == {"host", "hal-0", "hal-1", "hal-pinned"}
            assert "hal-1" not in run.files[0].file_facts.domains
            for file in run.files:
                assert all(one.exact for one in file.keyframes())
        tallies = app.ledger().tallies
        for name in ("hal-0", "hal-1", "hal-pinned"):
            [profile] = read_part(paths, Part(domains=(name,)))
            assert int(profile.sites.inuse_bytes.sum()) == tallies[name].live_bytes
            assert int(profile.sites.alloc_bytes.sum()) == tallies[name].bytes
        app.finish()
