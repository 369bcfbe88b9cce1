"""The doctor beside hostile processes and files: it reads without rights, waits for nobody, and
lives.
"""

import contextlib
import ctypes
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from attach_run import Unprepared
from bounded import ROOT
from forked import forked
from mem_parser.errors import MemError, TargetBusy, TargetUnsupported
from mem_parser.symbols.cache import CACHE_VARIABLE
from mem_profiler import attach as attaching
from mem_profiler import doctor
from mem_profiler.attach import control, remote
from mem_profiler.capture import listing
from mem_profiler.doctor import (
    examine,
    examine_process,
    examine_program,
    first_blocker,
    inside,
    neighbours,
)
from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import Image, is_same
from mem_profiler.entries import plan, planning
from mem_profiler.process import foreign, procfs
from mem_profiler.segment import discovery
from mem_sandbox import child, confine
from sampler_run import TARGETS, Target, build

NEEDS_FUSE = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="needs root and FUSE"
)
CAT = "/bin/cat"
ANSWER_S = 60
NOBODY = 65534
MAPS = """
import ctypes, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
mmap = ctypes.CDLL(None).mmap
mmap.restype = ctypes.c_long
mmap.argtypes = [ctypes.c_long, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
assert mmap(0x10000000, os.fstat(file).st_size, 5, 2, file, 0) == 0x10000000
assert os.system(sys.argv[2]) == 0
print("ready", flush=True)
sys.stdin.read()
"""
"""Maps a file as if it were code, below the libraries of its own."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a process of its own, which may not hang; None: it was killed."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def answer() -> None:
        there.send(work())

    process = context.Process(target=answer)
    process.start()
    there.close()
    try:
        assert here.poll(ANSWER_S), "no answer"
        return here.recv()
    except EOFError:
        return None
    finally:
        process.kill()
        process.join(30)


def unshare_mounts() -> None:
    """A mount namespace of its own for this process."""
    clone_newns, ms_rec_private = 0x20000, 0x44000
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(clone_newns) == 0
    assert libc.mount(b"none", b"/", None, ms_rec_private, None) == 0


def mount_tmpfs(folder: Path) -> None:
    assert ctypes.CDLL(None).mount(b"none", os.fsencode(folder), b"tmpfs", 0, None) == 0


@contextlib.contextmanager
def mapping(path: Path, *, before: Sequence[str] = (), after: str = "true") -> Iterator[int]:
    """A process that has a file mapped as if it were code, and has run a shell's line since."""
    words = [*before, sys.executable, "-S", "-c", MAPS, path, after]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            yield child.pid
        finally:
            child.kill()


def of(findings: list[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


@as_root
def test_a_pipe_in_place_of_a_mapped_file_is_not_opened(tmp_path: Path) -> None:
    """The pipe has the path and the inode number of the file that is mapped."""
    file, mount = tmp_path / "libc.so.6", f"mount -t tmpfs none {tmp_path}"
    begin = f'{mount} && cp /bin/true {file} && exec "$@"'
    inode = f"$(stat -c %i {file})"
    end = f'n="{inode}" && {mount} && mkfifo {file} && test "$n" = "{inode}"'
    with mapping(file, before=["unshare", "-m", "sh", "-c", begin, "sh"], after=end) as pid:
        findings = in_child(lambda: examine_process(pid))
        assert findings is not None
        assert "version unknown" in of(findings, "libc").text


def test_a_file_is_opened_only_where_it_is_the_mapped_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "real").write_bytes(b"real")
    status = (tmp_path / "real").stat()
    mapped = ((os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino)
    assert is_same(status, mapped)
    places = tuple(str(tmp_path / name) for name in ("pipe", "gone", "other", "real"))
    found, hidden = Image("/lib", places, mapped), Image("/lib", places[:3], mapped)
    for image in (found, hidden):
        image.hold()
    assert os.read(found.descriptor(), 10) == b"real"
    with pytest.raises(OSError, match="could not be opened"):
        hidden.descriptor()


@pytest.mark.parametrize("name", ["program", "script"])
def test_a_program_that_is_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "program", 0o755)
    (tmp_path / "script").write_text(f"#!{tmp_path / 'program'}\n", encoding="utf-8")
    (tmp_path / "script").chmod(0o755)
    findings = in_child(lambda: examine_program((str(tmp_path / name),)))
    assert of(findings, "program").text == "the program's file cannot be read"


def test_a_c_library_of_three_sparse_gibibytes_is_not_read_whole(tmp_path: Path) -> None:
    sparse = tmp_path / "libc.so.6"
    with sparse.open("wb") as file:
        file.write(Path("/bin/true").read_bytes())
        file.truncate(3 << 30)

    def limited(pid: int) -> list[Finding]:
        child.limit_memory(256 << 20)
        return examine_process(pid)

    with mapping(sparse) as pid:
        findings = in_child(lambda: limited(pid))
        assert findings is not None
        assert of(findings, "libc").text == f"{sparse}: version unknown"
        assert not [f for f in findings if f.check == "examination"]


def test_a_file_that_is_cut_again_and_again_does_not_end_the_doctor(tmp_path: Path) -> None:
    program = tmp_path / "program"
    image = Path(sys.executable).resolve().read_bytes()
    program.write_bytes(image)
    program.chmod(0o755)

    def examine_often() -> int:
        return sum(len(examine_program((str(program),))) > 0 for _ in range(20))

    cutter = multiprocessing.get_context("fork").Process(target=cut_for_ever, args=(program, image))
    cutter.start()
    try:
        assert (in_child(examine_often) or 0) > 0
    finally:
        cutter.kill()
        cutter.join(30)


def cut_for_ever(program: Path, image: bytes) -> None:
    fd = os.open(program, os.O_RDWR)
    while True:
        os.ftruncate(fd, 4096)
        os.pwrite(fd, image, 0)


def test_a_file_system_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "DEADLINE_S", 0.3)
    monkeypatch.setattr(procfs, "maps", lambda _pid: signal.pause())
    with forked(lambda: None) as pid:
        blocker = first_blocker(examine_process(pid))
        assert blocker.check == "examination"
        assert "did not answer" in blocker.text


@as_root
def test_links_of_a_process_stay_inside_its_root(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to("/real/deep")
    (tmp_path / "upwards").symlink_to("../../../../real/../real/deep")
    (tmp_path / "endless").symlink_to("endless")
    (tmp_path / "file").write_bytes(b"")
    with forked(lambda: os.chroot(tmp_path)) as pid:
        for name in ("/real/deep", "/absolute", "/upwards", "/../absolute/./"):
            with inside.folder(pid, name) as folder:
                assert os.path.samestat(os.fstat(folder), (tmp_path / "real" / "deep").stat())
        for name in ("/endless", "/file", "/nowhere", "/" + "real/../" * 1000):
            with pytest.raises(OSError, match=r"."), inside.folder(pid, name):
                pass


def shm(body: Callable[[Path], None]) -> Callable[[], None]:
    """For a child: a /dev/shm of its own with something in it."""

    def make() -> None:
        unshare_mounts()
        mount_tmpfs(Path("/dev/shm"))
        body(Path("/dev/shm"))

    return make


def taken_by_another(folder: Path) -> None:
    (folder / "mem_profiler.0").mkdir(0o700)
    os.chown(folder / "mem_profiler.0", NOBODY, NOBODY)


def open_to_others(folder: Path) -> None:
    (folder / "mem_profiler.0").mkdir()
    (folder / "mem_profiler.0").chmod(0o755)


def no_folder(folder: Path) -> None:
    (folder / "mem_profiler.0").write_bytes(b"")


def private(folder: Path) -> None:
    (folder / "mem_profiler.0").mkdir(0o700)


@as_root
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (taken_by_another, f"belongs to uid {NOBODY}"),
        (open_to_others, "is open to others (mode 0755)"),
        (no_folder, "is no folder"),
        (private, None),
    ],
)
def test_a_taken_folder_is_said(
    make: Callable[[Path], None], what: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEM_PROFILER_DIR", raising=False)
    with forked(shm(make), small=True) as pid:
        found = [f for f in examine_process(pid, quick=True) if f.check == "shm_folder"]
    if what is None:
        assert found == []
        return
    assert found[0].status == "warning"
    wanted = f"/dev/shm/mem_profiler.0 {what}; the sampler uses another folder beside it"
    assert found[0].text == wanted


@as_root
def test_a_user_namespace_has_its_own_number_for_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEM_PROFILER_DIR", raising=False)
    script = (
        "mount -t tmpfs none /dev/shm && mkdir /dev/shm/mem_profiler.0 &&"
        f" exec setpriv --reuid {NOBODY} --clear-groups unshare -U -r cat"
    )
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        give_up = time.monotonic() + 30
        while procfs.comm(process.pid) != "cat":
            assert time.monotonic() < give_up
            assert process.poll() is None
            time.sleep(0.01)
        found = of(examine_process(process.pid, quick=True), "shm_folder")
        assert found.text.startswith("/dev/shm/mem_profiler.0 belongs to uid 0;")
        assert found.cure == ""  # root's own, with root's captures
    finally:
        process.kill()
        process.communicate(timeout=30)


@as_root
def test_a_taken_folder_is_said_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DIR", str(tmp_path))
    taken_by_another(tmp_path)
    assert of(examine_program((CAT,)), "shm_folder").status == "warning"


@pytest.mark.parametrize(
    ("most", "status"), [(4096, "blocker"), (1 << 20, "warning"), (256 << 20, None)]
)
def test_a_limit_on_file_sizes_is_said(most: int, status: str | None) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    def started() -> list[Finding]:
        limit()
        return examine_program((CAT,))

    with forked(limit, small=True) as pid:
        both = [examine_process(pid), in_child(started)]
    for findings in both:
        assert [f.status for f in findings if f.check == "file_size"] == [status] * (
            status is not None
        )


@pytest.mark.parametrize(("value", "out"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_who_opted_out_is_left_alone(
    value: str, out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DISABLE", value)
    process = subprocess.Popen([CAT], stdin=subprocess.PIPE)
    try:
        both = [examine_process(process.pid, quick=True), examine_program((CAT,))]
    finally:
        process.kill()
        process.communicate(timeout=30)
    for findings in both:
        assert [f.status for f in findings if f.check == "opted_out"] == ["blocker"] * out


def test_a_misspelt_variable_is_named_with_the_one_that_is_meant() -> None:
    source = "".join(path.read_text() for path in (ROOT / "sampler").rglob("*.[ch]"))
    read = set(re.findall(r'"MEM_PROFILER_([A-Z_]+)"', source))
    assert read == set(neighbours._VARIABLES)
    environment = {"MEM_PROFILER_FOLOW_FORK": "1", "MEM_PROFILER_CACHE": "x", "LANG": "C"}
    environment |= {f"MEM_PROFILER_{name}": "1" for name in read}
    [finding] = neighbours.misspelt(environment)
    assert finding.text.startswith("MEM_PROFILER_FOLOW_FORK in its environment is no variable")
    assert finding.cure == "is MEM_PROFILER_FOLLOW_FORK meant?"


def become_nobody() -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@as_root
@pytest.mark.parametrize("dumpable", [0, 1])
def test_a_process_that_is_not_dumpable_is_said_to_be_so(dumpable: int) -> None:
    def body() -> None:
        become_nobody()
        assert ctypes.CDLL(None).prctl(4, dumpable, 0, 0, 0) == 0  # an exec makes it 1 again

    def examine(pid: int) -> list[Finding]:
        become_nobody()
        return examine_process(pid, quick=True)

    with forked(body, small=bool(dumpable)) as pid:
        findings = in_child(lambda: examine(pid))
        said = [f.text for f in findings if "not dumpable" in f.text]
        assert bool(said) is not bool(dumpable)


def test_names_of_files_cannot_write_to_the_screen(tmp_path: Path) -> None:
    evil = tmp_path / "libc-2.36.so\x1b[31m\n::error::"
    shutil.copy("/bin/true", evil)
    with mapping(evil) as pid:
        for finding in examine_process(pid):
            row = finding.as_json()
            assert row["text"].isprintable()
            assert row["cure"] == "" or row["cure"].isprintable()


@pytest.fixture
def target(segment_dir: Path, tmp_path: Path) -> Iterator[Target]:
    folder = tmp_path / "mounted"
    folder.mkdir()
    argv = [sys.executable, TARGETS / "unanswered.py", folder]
    with Unprepared(argv, segment_dir) as process:
        if process.process.poll() is not None:
            pytest.skip("FUSE cannot be mounted here")
        assert process.line() == "ready"
        yield process


@NEEDS_FUSE
def test_attaching_gives_up(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "READ_LIMIT_S", 0.5)
    monkeypatch.setattr(remote, "WHOLE_S", 0.5)
    monkeypatch.setattr(examine, "DEADLINE_S", 0.5)
    with pytest.raises(MemError):
        attaching.attach(target.pid)
    with pytest.raises(TargetBusy, match="did not answer"):
        remote.run(target.pid, remote.Command(remote.BEGIN))
    with pytest.raises(TargetBusy, match="did not answer"):
        control._images(target.pid, control.never)


@NEEDS_FUSE
def test_the_doctor_says_so(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "DEADLINE_S", 1.0)
    findings = doctor.examine_process(target.pid)
    assert any(f.status == "blocker" and "did not answer" in f.text for f in findings)


@NEEDS_FUSE
def test_a_segment_there_is_refused(target: Target) -> None:
    [mapping] = discovery.segment_mappings(procfs.maps(target.pid))
    with pytest.raises(TargetUnsupported, match="FUSE"):
        foreign.open_mapped(target.pid, mapping, os.O_RDONLY)
    with pytest.raises(MemError):
        discovery.open_process(target.pid)


@NEEDS_FUSE
def test_the_listing_goes_on(target: Target) -> None:
    assert target.pid not in [row.pid for row in listing.listing().rows]


def tell_rights(*_: object, **__: object) -> None:
    """Fail with who and what reads here."""
    words = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    nobody = os.getuid() in confine._UNUSED_UIDS
    raise MemError(f"as nobody {nobody} privs {words['NoNewPrivs']} seccomp {words['Seccomp']}")


@as_root
def test_a_plan_is_made_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.setattr(plan, "find", tell_rights)
    with pytest.raises(MemError, match=r"as nobody True privs 1 seccomp 2"):
        planning.of_file("/bin/true", 0, "true")


@as_root
def test_a_process_is_judged_without_rights(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = build("storm.c")
    with Unprepared.started([program, "handler"], segment_dir, user=NOBODY, group=NOBODY) as target:
        monkeypatch.setattr(examine, "_judge", tell_rights)
        [*_, finding] = doctor.examine_process(target.pid)
    assert finding.text == "as nobody True privs 1 seccomp 2"


@as_root
def test_a_program_that_only_root_may_read_is_examined_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(build("own_malloc.c"), program)
    program.chmod(0o700)
    findings = doctor.examine_program((str(program),))
    assert not [f for f in findings if f.status == "warning" and "cannot be read" in f.text]
    assert [f for f in findings if f.text == "x86_64, dynamic"]
