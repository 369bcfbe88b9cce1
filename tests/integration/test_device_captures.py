"""Device memory through the commands: files, snapshots, kills, rates, held against a stub's ledger.

Model: the program runs on Ascend's stub drivers, whose ledger says what they really gave. Every
file is read by `mem_parser`'s own reader, and one of them by jeprof.
"""

import math
from pathlib import Path

import pytest

from controller_tools import command_ok, run_command, wait_until
from mem_parser.domains import join
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture import session
from mem_profiler.segment import devices, layout, reserve
from sampler_run import Controller, run_ok
from stub_driver import App, Ascend, Ledger

FLAG_DEVICE = 1 << 10
MIB = 1 << 20
LINES = (
    "set 0", "malloc 0 1000", "align32 1 2000000", "rtmalloc 2 3000", "host 3 400",
    "managed 4 500", f"hal 5 600 {FLAG_DEVICE | 1}", "malloc 6 7000", "free 6", "free 2",
)  # fmt: skip


@pytest.fixture(scope="module")
def program() -> Path:
    return Ascend.build("plain").program(linked=True)


def profiles(folder: Path, pid: int, number: int = 1) -> dict[str, Profile]:
    """The files of one capture, by domain."""
    found = [read_profile(path) for path in folder.glob(f"p.{pid}.{number}*.heap")]
    return {profile.domains[0]: profile for profile in found}


def in_use(profile: Profile) -> tuple[int, int]:
    """Blocks and bytes, exact at rate 1."""
    objects, size = (profile.total(Count.INUSE, unit).value for unit in (Unit.OBJECTS, Unit.SPACE))
    return round(objects), round(size)


def live_in(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """The same of what the drivers really hold, of domains that were ever used."""
    return {
        domain: (tally.live_blocks, tally.live_bytes)
        for domain, tally in ledger.tallies.items()
        if tally.blocks
    }


def held(found: dict[str, Profile]) -> dict[str, tuple[int, int]]:
    """Of all files but the host's."""
    return {domain: in_use(profile) for domain, profile in found.items() if domain != "host"}


def test_a_run_leaves_a_file_for_each_domain(
    segment_dir: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = segment_dir / "ledger"
    monkeypatch.setenv("STUB_LEDGER", str(ledger))
    script = "\n".join([*LINES, f"align32 7 {1 << 36}", ""])
    words = ("run", "-c", "1", "--device", "hal", "-o", segment_dir / "p", "--", program, "link")
    done = command_ok(*words, input=script)
    assert "note: device" not in done.stderr
    [pid] = {path.name.split(".")[1] for path in segment_dir.glob("p.*.heap")}

    found = profiles(segment_dir, int(pid))

    assert held(found) == live_in(Ledger.read(ledger))
    assert set(found["host"].capture.domains) == set(found)
    device = found["hal-0"]
    assert (device.capture.device.family, device.capture.device.index) == ("hal", 0)
    assert device.sites.failed_bytes.sum() == 1 << 36
    assert f"p.{pid}.1.hal-0.heap" in done.stderr
    assert "1 allocation refused" in done.stderr
    assert join(list(found.items())).domains == list(found)

    text = run_ok(
        ["jeprof", "--text", "--show_bytes", program, segment_dir / f"p.{pid}.1.hal-0.heap"]
    )
    assert f"Total: {in_use(device)[1]} B" in text.stdout
    assert "aclrtMallocAlign32" in text.stdout


def test_snapshots_stops_and_starts_see_what_they_should(segment_dir: Path, program: Path) -> None:
    prefix = segment_dir / "p"
    with App((program, "link"), segment_dir, rate=None) as app:
        assert app.do("set 0", "rtmalloc 0 1000") == [0, 0]
        assert run_command("start", app.pid, "-c", "1").returncode == 0
        assert app.do("rtmalloc 1 2000", "rtmalloc 2 3000", "rtfree 0", "rtfree 1") == [0] * 4
        assert run_command("snapshot", app.pid, "-o", prefix).returncode == 0
        assert app.do("host 3 400", "rtfree 2") == [0] * 2
        assert run_command("stop", app.pid, "-o", prefix).returncode == 0
        assert app.do("rtmalloc 4 5000") == [0]
        assert run_command("start", app.pid, "-c", "1").returncode == 0
        assert app.do("rtmalloc 5 6000") == [0]
        assert run_command("stop", app.pid, "-o", prefix).returncode == 0

        first, second, third = (held(profiles(segment_dir, app.pid, n)) for n in (1, 2, 3))

        assert first == {"hal-0": (1, 3000)}
        assert second == {"hal-0": (0, 0), "hal-pinned": (1, 400)}
        assert third == {"hal-0": (1, 6000)}
        app.finish()


def test_a_killed_program_leaves_its_device_memory(segment_dir: Path, program: Path) -> None:
    with App((program, "link"), segment_dir) as app:
        assert app.do(*LINES) == [0] * len(LINES)
        ledger = app.ledger()
        app.kill()

        command_ok("recover", app.pid, "-o", segment_dir / "p", "--symbolize")
        found = profiles(segment_dir, app.pid)
        assert held(found) == live_in(ledger)
        assert all(profile.embedded is not None for profile in found.values())


def test_a_rate_of_their_own_estimates_device_bytes(segment_dir: Path, program: Path) -> None:
    size, blocks, rate = 4096, 1500, 16384
    with App((program, "link"), segment_dir, device_rate=str(rate), seed="7") as app:
        assert app.do("set 0") == [0]
        for _ in range(blocks):
            assert app.do(f"rtmalloc 0 {size}") == [0]
        command_ok("snapshot", app.pid, "-o", segment_dir / "p")

        device = profiles(segment_dir, app.pid)["hal-0"]

        total = device.total(Count.ALLOC, Unit.SPACE)
        assert device.rate_bytes == rate
        assert 0 < total.samples < blocks
        p = -math.expm1(-size / rate)
        assert abs(total.samples - blocks * p) < 5 * math.sqrt(blocks * p * (1 - p))
        assert abs(total.value - blocks * size) < 5 * total.std_error
        assert device.capture.device.alloc_calls == blocks
        app.finish()


def test_without_system_calls_the_controller_gives_the_pages(
    segment_dir: Path, program: Path
) -> None:
    with App((program, "link"), segment_dir, rate=None) as app:
        assert app.do("set 0") == [0]
        controller = Controller(app)
        controller.start(1)
        segment = controller.segment
        segment.store(("controller_flags",), layout.FLAG_SECCOMP, 32)
        assert app.do("rtmalloc 0 1000") == [0]
        assert segment.control().number("device_wanted") == 1

        assert reserve.ahead(segment, segment.control())

        assert app.do("rtmalloc 1 2000") == [0]
        segment.close()
        assert run_command("snapshot", app.pid, "-o", segment_dir / "p").returncode == 0
        found = profiles(segment_dir, app.pid)
        assert held(found) == {"hal-0": (1, 2000)}
        assert found["host"].capture.lost["domain_full"] == 1
        app.finish()


def told(one: session.Session, app: App) -> int:
    """What the driver said is in use, after another allocation and free."""
    assert app.do("rtmalloc 9 64", "rtfree 9") == [0, 0]
    control = one.segment.control()
    [domain] = devices.read_domains(one.segment, control)
    return domain.actual.used_bytes if domain.actual else 0


def test_a_series_follows_a_domain(segment_dir: Path, program: Path) -> None:
    with App((program, "link"), segment_dir, rate=None) as app:
        assert app.do("set 0") == [0]
        one = session.Session(app.pid)
        try:
            one.start(session.Rates(1), None)
            for k, size in enumerate((1000, 3 * MIB, 1000)):
                assert app.do(f"rtmalloc {k} {size}") == [0]
                one.recording.recorder.tick(one.recording.now_ns())
            # The driver is asked again once 100 ms are over: then both numbers are of one moment.
            wait_until(lambda: told(one, app) >= 2000 + 3 * MIB, "the driver was asked again")
            assert app.do("rtfree 1") == [0]
            result = one.finish(str(segment_dir / "p"), "stopped")
        finally:
            one.close()

        [path] = [device.path for device in result.devices]
        device = read_profile(path)
        sizes = [round(reading.estimate_bytes) for reading in device.series]
        about = device.capture.device
        assert about.actual_total_bytes == 64 * MIB
        assert about.actual_used_bytes in {2000 + 3 * MIB, 2064 + 3 * MIB}
        # Whole pages: two huge ones, and a small one for each small block.
        assert about.actual_tracked_bytes in {4 * MIB + 2 * 4096, 4 * MIB + 3 * 4096}
        assert sizes == [1000, 1000 + 3 * MIB, 2000 + 3 * MIB, 2000]
        assert device.capture.peak_bytes == 2064 + 3 * MIB
        assert device.total(Count.PEAK, Unit.SPACE).value == 2064 + 3 * MIB
        app.finish()
