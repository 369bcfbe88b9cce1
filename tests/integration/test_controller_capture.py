"""The default form, start, stop and snapshot, on real processes with the real sampler."""

import math
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from controller_tools import (
    LIBRARY,
    TIMEOUT_S,
    HeapFile,
    Stepper,
    command_ok,
    run_command,
    start_command,
    wait_until,
)
from mem_cli.profiler.attaching import Attached
from mem_parser.errors import MemError, ProcessGone
from mem_profiler.capture import gate, listing, session
from mem_profiler.process import procfs
from mem_profiler.segment import discovery, layout
from other_users import UID, need_users
from sampler_run import Target

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]


def capturing(pid: int) -> bool:
    with discovery.open_process(pid) as segment:
        return segment.control().gate_capture > 0


def written(stdout: str) -> HeapFile:
    found = re.search(r"^  (\S+\.heap) ", stdout, re.MULTILINE)
    assert found, stdout
    return HeapFile(found[1])


def test_a_followed_child_that_has_sampled_nothing_is_told_from_one_that_is_not_followed(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1", MEM_PROFILER_FOLLOW_FORK="1") as target:
        target.tell("k")
        [child] = procfs.children(target.pid)
        asked = run_command("snapshot", child)
        assert "a forked child that has sampled nothing yet, or is not followed" in asked.stderr
        assert "has sampled nothing yet" in run_command("doctor", child).stdout

        # The thread that attaches allocates: the first sample.
        busy = run_command("-s", "0.2", "-p", child, "-o", tmp_path / "p")
        assert busy.returncode == 4
        hint = f"hint:  mem_profiler snapshot {child} writes what it has, "
        assert hint in busy.stderr
        assert hint in run_command("attach", child).stderr
        advice = run_command("doctor", child).stdout
        assert "a capture of it runs" in advice
        assert advice.endswith(f"snapshot {child}\n")
        command_ok("snapshot", child, "-o", tmp_path / "p")
        target.send("")


def test_a_capture_names_the_children_that_it_lacks_and_the_command_that_has_them(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as target:
        target.tell("k")
        [child] = procfs.children(target.pid)
        done = command_ok("-s", "0.2", "-p", target.pid, "-o", tmp_path / "p")
        [line] = [one for one in done.stdout.splitlines() if "not in this capture" in one]
        cure = f"mem_profiler -s 60 -p {target.pid} --children"
        assert line == (
            f"  its child is not in this capture: stepper (pid {child}); {cure} captures all"
        )
        assert run_command("doctor", target.pid).stdout.endswith(f"-p {target.pid} --children\n")
        every = command_ok("-s", "0.2", "--children", "-p", target.pid, "-o", tmp_path / "q")
        assert "not in this capture" not in every.stdout
        # It calls the sampler since its parent began with it.
        assert "already, no hook was needed" in every.stderr
        assert {one.name.split(".")[1] for one in tmp_path.glob("q.*.heap")} == {
            str(target.pid), str(child),
        }  # fmt: skip
        target.send("")


def test_of_several_processes_one_that_ends_meanwhile_is_named_and_the_others_go_on(
    stepper: Path,
) -> None:
    with Stepper(stepper) as target:
        with Stepper(stepper) as ended:
            gone = ended.pid
        said: list[MemError] = []
        attached = Attached()
        assert attached.where_needed([gone, target.pid], lambda: False, said.append) == [target.pid]
        assert [str(one) for one in said] == [f"there is no process {gone}"]
        with pytest.raises(ProcessGone):
            attached.where_needed([gone], lambda: False, said.append)


def test_a_capture_by_pid_ends_with_the_promised_lines(stepper: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "with space"
    with Stepper(stepper) as target:
        done = command_ok("-s", "0.3", "-c", "1", "-p", target.pid, "-o", prefix)
        lines = done.stdout.splitlines()
        assert lines[0] == "succeeded in collecting memory data!"
        path = f"{prefix}.{target.pid}.1.heap"
        assert lines[1].startswith(f"  {path} ")
        steps = done.stdout.partition("next:\n")[2].replace(" \\\n    ", " ").splitlines()
        assert f"  mem_parser '{path}'" in steps
        assert "0 samples" in done.stdout
        command_ok("-s", "0.1", "-c", "1", "-p", target.pid, "-o", prefix)
        assert Path(f"{prefix}.{target.pid}.2.heap").exists()
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_a_killed_target_leaves_everything_in_the_file(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper) as target:
        child = start_command("-s", "600", "-c", "1", "-p", target.pid, "-o", tmp_path / "p")
        wait_until(lambda: capturing(target.pid), "the capture runs")
        target.tell("a 1000 100")
        target.child.kill()
        target.child.wait(TIMEOUT_S)
        out, err = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 0, err
    assert "target ended by signal 9 (SIGKILL) after" in out
    heap = written(out)
    assert heap.header["end"] == "signal 9 SIGKILL"
    assert heap.total("alloc_blocks") == 1000
    assert heap.header["memory"]["rss_bytes"]
    assert any(line.endswith(str(stepper)) for line in heap.maps)


def test_a_target_stops_at_the_deadline_when_its_controller_was_killed(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as target:
        child = start_command("-s", "600", "-c", "1", "-p", target.pid, "-o", tmp_path / "p")
        wait_until(lambda: capturing(target.pid), "the capture runs")
        target.tell("a 10 100")
        child.kill()
        child.communicate(timeout=TIMEOUT_S)
        busy = run_command("start", target.pid)
        assert f"by mem_profiler -s (pid {child.pid}), which has ended, since" in busy.stderr
        with discovery.open_process(target.pid) as segment:
            segment.store(("capture", 1, "deadline_ns"), gate.target_now_ns(target.pid))

        def closed() -> bool:
            target.tell("c 10 100")
            return not capturing(target.pid)

        wait_until(closed, "the target has shut its gate")
        assert "stopped, not written" in run_command("ps").stdout
        done = command_ok("stop", target.pid, "-o", tmp_path / "p")
        heap = written(done.stdout)
        assert heap.header["end"] == "deadline"
        assert heap.total("alloc_blocks") >= 10


def test_a_server_that_gave_up_root_is_listed_by_the_user_it_acts_as() -> None:
    need_users()
    gives_up = "import os, sys; os.setuid(int(sys.argv[1])); print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", gives_up, UID]
    variables = os.environ | {"MEM_PROFILER_START": "1M"}
    with Target([str(word) for word in words], {**variables, "LD_PRELOAD": str(LIBRARY)}) as target:
        target.line()
        [row] = [one for one in listing.listing().rows if one.pid == target.pid]
    assert row.user == str(UID)


def test_two_controllers_cannot_meet(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper) as target:
        first = start_command("-s", "600", "-c", "1", "-p", target.pid, "-o", tmp_path / "p")
        wait_until(lambda: capturing(target.pid), "the capture runs")
        second = run_command("-s", "1", "-p", target.pid, "-o", tmp_path / "p")
        assert second.returncode == 4
        assert f"is being captured by mem_profiler (pid {first.pid}) since" in second.stderr
        assert f"hint:  mem_profiler snapshot {target.pid}" in second.stderr
        snapshot = command_ok("snapshot", target.pid, "-o", tmp_path / "s")
        assert written(snapshot.stdout).header["kind"] == "snapshot"
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=TIMEOUT_S)
        assert first.returncode == 0


def test_start_stop_and_snapshot_by_hand(stepper: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    with Stepper(stepper) as target:
        assert run_command("stop", target.pid, "-o", prefix).returncode == 4
        assert run_command("start", "-p", target.pid, "-c", "1").returncode == 0
        busy = run_command("start", target.pid)
        assert busy.returncode == 4
        assert "already has a capture, by mem_profiler start" in busy.stderr
        target.tell("a 7 100")
        running = written(run_command("snapshot", "-p", target.pid, "-o", prefix).stdout)
        assert (running.header["end"], running.total("alloc_blocks")) == ("running", 7)
        target.tell("a 3 100")
        stopped = written(run_command("stop", "--pid", target.pid, "--output", prefix).stdout)
        assert (stopped.header["end"], stopped.total("alloc_blocks")) == ("stopped", 10)
        target.tell("f")
        after = written(run_command("snapshot", target.pid, "-o", prefix).stdout)
        assert (after.header["end"], after.total("freed_blocks")) == ("stopped", 10)
        assert run_command("stop", target.pid, "-o", prefix).returncode == 4


def test_a_server_and_its_workers_are_written_stopped_and_started_again_as_one(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="64", MEM_PROFILER_FOLLOW_FORK="1") as target:
        target.tell("a 200 100")
        target.tell("k")
        target.tell("a 200 100")
        parent, [child] = target.pid, procfs.children(target.pid)
        busy = run_command("-s", "1", "-p", parent, "--children")
        assert busy.returncode == 4
        writes = f"hint:  mem_profiler snapshot {parent} --children writes what it has"
        assert f"{writes}, mem_profiler stop {parent} --children ends it" in busy.stderr
        monkeypatch.setattr(procfs, "pids", lambda: [parent, child])  # others' tests have some too
        for command, which in (
            ("snapshot", [parent, "--children"]), ("snapshot", ["--all"]),
            ("stop", [parent, "--children"]),
        ):  # fmt: skip
            prefix = tmp_path / f"{command}{len(which)}"
            command_ok(command, *which, "-o", prefix)
            found = {one.name.split(".")[1] for one in tmp_path.glob(f"{prefix.name}.*.heap")}
            assert found == {str(parent), str(child)}
        over = run_command("stop", parent, "--children")
        assert over.stderr.startswith("error: None of the 2 processes has a capture that is not in")
        assert f"hint:  mem_profiler start {parent} --children" in over.stderr
        again = command_ok("start", parent, "--children")
        for pid in (parent, child):
            assert f"capture 2 of pid {pid} is running, 1 sample / 64 B" in again.stdout
        assert f"mem_profiler stop {parent} --children\n" in again.stdout
        refused = run_command("stop", parent, "--all")
        assert "-p and --all exclude each other" in refused.stderr
        target.send("")


def test_several_processes_must_be_chosen_from(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stepper(stepper) as one, Stepper(stepper) as two:
        ours = [one.pid, two.pid]
        monkeypatch.setattr(procfs, "pids", lambda: ours)  # others' tests have processes too
        unclear = run_command("-s", "1", "-o", tmp_path / "p")
        assert unclear.returncode == 4
        assert all(f"{pid} (stepper)" in unclear.stderr for pid in ours)
        assert "2 processes have the sampler" in unclear.stderr
        ours.remove(two.pid)
        said = run_command("-s", "0.1", "-o", tmp_path / "p").stderr.splitlines()[0]
        assert said.startswith(f"note: stepper (pid {one.pid}), the only process with a sampler")
        assert said.endswith("-p PID chooses another")


def test_several_processes_are_captured_at_once_and_deaths_do_not_disturb(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as one, Stepper(stepper) as two:
        sessions = session.open_all([one.pid, two.pid])
        fed = False

        def feed(_gone: float) -> None:
            nonlocal fed
            if not fed:
                fed = True
                one.tell("a 5 10")
                two.tell("a 6 10")
                one.child.kill()
                one.child.wait(TIMEOUT_S)

        end = session.run(sessions, session.Rates(1), 0.3, lambda: False, feed)
        results, errors = session.write_all(sessions, str(tmp_path / "p"), end)
        assert not errors
        ends = {result.pid: result.end for result in results}
        assert ends == {one.pid: "signal 9 SIGKILL", two.pid: "deadline"}
        assert [HeapFile(r.path).total("alloc_blocks") for r in results] == [5, 6]


def test_exec_in_the_same_process_ends_the_capture_of_the_old_image(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as target:
        one = session.Session(target.pid)
        one.start(session.Rates(1), None)
        target.tell("a 5 100")
        target.tell(f"x {stepper}")
        one.tick()
        result = one.finish(str(tmp_path / "p"), "stopped")
        one.close()
        assert result.end == "target ended"
        assert any("exec" in note for note in result.notes)
        assert HeapFile(result.path).total("alloc_blocks") == 5
        with discovery.open_process(target.pid) as fresh:
            assert fresh.control().number("capture_number") == 0


def test_a_forked_child_is_told_from_its_parent(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper) as target:
        target.tell("k")
        children = Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
        done = run_command("stop", children[0])
        assert done.returncode == 4
        assert "forked child" in done.stderr
        assert "MEM_PROFILER_FOLLOW_FORK=1" in done.stderr
        done = command_ok("-s", "0.2", "-p", children[0], "-o", tmp_path / "p")
        assert "attached to stepper" in done.stderr
        target.send("")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_profiles_another_users_process_and_not_the_other_way_round(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DIR", "/dev/shm")
    shared = Path("/tmp") / f"stepper-{os.getpid()}"
    library = Path("/tmp") / f"stepper-{os.getpid()}.so"
    for source, copy in ((stepper, shared), (LIBRARY, library)):
        shutil.copy(source, copy)
        copy.chmod(0o755)
    drop = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    try:
        with Stepper(shared, prefix=drop, library=library) as target:
            command_ok("-s", "0.2", "-c", "1", "-p", target.pid, "-o", tmp_path / "p")
        with Stepper(stepper) as mine:
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                text = ""
                try:
                    discovery.open_process(mine.pid)
                except Exception as error:
                    text = f"{type(error).__name__}: {error}"
                os.write(writer, text.encode())
                os._exit(0)
            os.waitpid(child, 0)
            os.close(writer)
            with os.fdopen(reader) as pipe:
                assert pipe.read().startswith("PermissionDenied: ")
    finally:
        shared.unlink()
        library.unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_a_target_in_namespaces_of_its_own_is_captured_and_outlived(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEM_PROFILER_DIR")
    script = f"mount -t tmpfs none /dev/shm && LD_PRELOAD={LIBRARY} exec {stepper}"
    shell = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")
    with Stepper(Path(script), prefix=shell, LD_PRELOAD="") as target:
        children = Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
        inner = int(children[0])
        assert f"{inner} " in run_command("ps").stdout
        child = start_command("-s", "600", "-c", "1", "-p", inner, "-o", tmp_path / "p")
        wait_until(lambda: capturing(inner), "the capture runs")
        target.tell("a 20 100")
        os.kill(inner, signal.SIGKILL)
        out, err = child.communicate(timeout=TIMEOUT_S)
        assert child.returncode == 0, err
        heap = written(out)
        assert heap.header["pid"] == 1
        assert heap.total("alloc_blocks") == 20


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_a_segment_that_ends_with_the_container_is_said_and_examined_in_its_own_folder(
    stepper: Path, tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    script = (
        f"mount -t tmpfs -o size=48m none {tmp_path}/inner && MEM_PROFILER_DIR={tmp_path}/inner"
        f" MEM_PROFILER_MAX_MEMORY=4M LD_PRELOAD={LIBRARY} exec {stepper}"
    )
    ends = "ends with its container: use -s from the host, or a volume at MEM_PROFILER_DIR"
    with Stepper(Path(script), prefix=("unshare", "--mount", "sh", "-c"), LD_PRELOAD="") as target:
        said = " ".join(run_command("doctor", "-p", target.pid).stdout.split())
        assert f"{tmp_path}/inner: 48.0 MiB free; a capture may take 4.0 MiB" in said, said
        assert (
            f"note: the capture of pid {target.pid} {ends}\n"
            in run_command("start", target.pid).stdout
        )
    with Stepper(stepper) as target:
        assert ends not in run_command("start", target.pid).stdout


def test_capture_numbers_end_before_they_overflow(stepper: Path) -> None:
    with Stepper(stepper) as target, discovery.open_process(target.pid) as segment:
        segment.store(("capture_number",), layout.CAPTURE_MAX, 32)
        done = run_command("start", target.pid)
        assert done.returncode == 4
        assert "restart it" in done.stderr


def test_a_controller_that_needs_too_much_memory_ends_the_capture_and_says_so(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_CONTROLLER_MEMORY", "1M")
    with Stepper(stepper) as target:
        done = command_ok("-s", "60", "-c", "1", "-p", target.pid, "-o", tmp_path / "x")
        heap = written(done.stdout)
        assert heap.header["end"] == "stopped"
        assert "reached the limit of its own memory" in heap.header["notes"][0]
        assert heap.header["controller"]["peak_rss_bytes"] > 1 << 20
        assert heap.header["controller"]["cpu_s"] > 0
        assert not capturing(target.pid)


def test_who_asks_often_enough_does_not_wait_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from mem_cli.profiler.signals import Stop

    handlers: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda _number, handler: handlers.append(handler))
    stop = Stop()
    for _ in range(2):
        stop(signal.SIGINT, None)
    assert (stop.asked(), handlers) == (True, [])
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)
    assert handlers == [signal.SIG_DFL]
    patient = Stop(math.inf)
    for _ in range(100):
        patient(signal.SIGINT, None)
    patient.be_short()
    for _ in range(2):
        patient(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        patient(signal.SIGINT, None)


def test_a_reader_that_ends_loses_nothing(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run as the target's user, who can end it."""
    with Stepper(stepper) as target:
        one = session.Session(target.pid)
        one.start(session.Rates(1), None)
        target.tell("a 100 64")
        with monkeypatch.context() as patch:
            patch.setattr("mem_profiler.profile.build.build", lambda *_, **__: os._exit(1))
            with pytest.raises(MemError, match="ended without an answer") as refused:
                one.finish(str(tmp_path / "x"), "stopped")
        one.close()
        assert "mem_profiler stop" in str(refused.value.hint)
        assert list(tmp_path.glob("*x*")) == []
        done = command_ok("stop", target.pid, "-o", tmp_path / "x")
        assert written(done.stdout).total("alloc_blocks") == 100


def test_of_many_processes_those_that_cannot_be_captured_are_left_out(stepper: Path) -> None:
    told: list[MemError] = []
    with Stepper(stepper) as target:
        [one] = session.open_all([os.getpid(), target.pid], told.append)
        assert one.pid == target.pid
        one.close()
        with pytest.raises(MemError):
            session.open_all([os.getpid(), target.pid])
    assert [str(os.getpid()) in str(error) for error in told] == [True]
    with pytest.raises(MemError):
        session.open_all([os.getpid()], told.append)


def test_one_whose_capture_cannot_be_started_does_not_keep_the_others_from_theirs(
    stepper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[MemError] = []

    def refuse(*_: object) -> None:
        raise MemError("no room")

    with Stepper(stepper) as one, Stepper(stepper) as two:
        sessions = session.open_all([one.pid, two.pid])
        monkeypatch.setattr(sessions[0], "start", refuse)
        end = session.run(
            sessions, session.Rates(1), 60, lambda: True, lambda _: None, leave_out=told.append
        )
        results, errors = session.write_all(sessions, str(tmp_path / "x"), end)
    assert [str(error) for error in told] == ["no room"]
    assert [result.pid for result in results] == [two.pid]
    assert errors == []
