"""Names of result files; a file gets its name only when it is complete.

Model: the writer creates a file in the same folder under an unguessable name, flushes
it to the disk, and then links it to PREFIX.<pid>.<n>.heap with the first free n. A link never
replaces a file, so two writers get two names. The writer opens the folder once and uses names in
it; it links the file by its descriptor, so the link is always the file that it wrote.

An `ExactFile` takes the place of a prefix where one file has the name that the user gave. It
replaces another file only if that was asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mem_parser import sudo
from mem_parser.errors import FULL, DiskFull, MemError, UsageProblem
from mem_parser.escape import file_part, shell_path
from mem_parser.output_path import PROFILE_SUFFIXES, new_file, open_folder
from mem_profiler.process import procfs
from mem_profiler.segment.folders import RUN_FOLDER

NAMES_TRIED = 100_000
_NO_LINKS = (
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOENT, errno.EXDEV,
)  # fmt: skip


@dataclass(frozen=True)
class ExactFile:
    """The name of one file; ``replace``: an existing file is replaced."""

    path: str
    replace: bool = False

    def beside(self, part: str) -> str:
        """Return the name of a further file: `out.heap` makes `out.<part>.heap`."""
        stem, suffix = os.path.splitext(self.path)
        return f"{stem}.{file_part(part)}{suffix}"

    def of_process(self, pid: int) -> ExactFile:
        """Return the name for another process of the same run."""
        return ExactFile(self.beside(str(pid)), self.replace)


Where = str | ExactFile
"""A prefix of names, or one name."""


def where(name: str, *, replace: bool = False) -> Where:
    """Resolve ``name`` of `-o`, if files can be made there. Raises UsageProblem."""
    if not name.endswith(PROFILE_SUFFIXES) or os.path.isdir(name):
        return check_prefix(name)
    exact = ExactFile(name, replace)
    check_exact(exact)
    return exact


def keep_of_run(folder: Path, given: Where, pid: int) -> None:
    """Keep beside the segments of a run where its files go, and the process of the program: if it
    is killed, it writes none.
    """
    path = given.path if isinstance(given, ExactFile) else given
    with contextlib.suppress(OSError, ValueError):
        (folder / f"output.{pid}").symlink_to(os.path.abspath(path))


def kept_of_run(folder: Path, pid: int) -> str | None:
    """Where the run of a folder was told to write the files of a process. To be shown, not used:
    another user may have made the folder.
    """
    if not RUN_FOLDER.fullmatch(folder.name):
        return None
    with contextlib.suppress(OSError):
        for link in folder.glob("output.*"):
            path = os.readlink(link)
            if path.endswith(PROFILE_SUFFIXES) and link.name != f"output.{pid}":
                return ExactFile(path).of_process(pid).path
            return path
    return None


def check_exact(exact: ExactFile) -> None:
    """Raise UsageProblem unless the file can be made; leaves nothing behind."""
    check_prefix(exact.path)
    if os.path.lexists(exact.path) and not exact.replace:
        raise UsageProblem(
            f"-o {exact.path}: the file exists already", hint="-f replaces it; or give another name"
        )


def check_prefix(prefix: str) -> str:
    """`prefix` if files can be made under it. Raises UsageProblem; leaves nothing behind."""
    folder, name = os.path.split(prefix)
    folder = folder or "."
    if not name or os.path.isdir(prefix):
        raise UsageProblem(
            f"-o {prefix or repr(prefix)}: a prefix needs a name after the folder",
            hint=f"-o {shell_path(os.path.join(prefix, 'custom_prof'))}",
        )
    try:
        with open_folder(folder) as opened:
            _probe(prefix, opened)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageProblem(
            f"-o {prefix}: there is no folder {folder}", hint=f"mkdir -p {shell_path(folder)}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageProblem(f"-o {prefix}: cannot open {folder}: {reason}") from None
    return prefix


def _probe(prefix: str, folder: int) -> None:
    try:
        handle, name = new_file(folder, os.path.basename(prefix))
        os.close(handle)
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        where = os.path.dirname(prefix) or "."
        raise UsageProblem(f"-o {prefix}: cannot write in {where}: {error.strerror}") from None


class _File:
    """A file while it is written: open, and under a temporary name in its folder."""

    def __init__(self, folder: int, stem: str) -> None:
        self.folder = folder
        handle, self.name = new_file(folder, stem)
        self.out: IO[bytes] = open(handle, "wb")  # noqa: SIM115 - closed by `close`

    def close(self) -> None:
        """Close the file, and remove its temporary name if that still exists."""
        try:
            self.out.close()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self.folder)

    def link(self, final: str) -> None:
        """Give the file its final name. Raises FileExistsError when that is taken, OSError."""
        try:
            # By descriptor: another user's file may have the temporary name by now.
            os.link(f"/proc/self/fd/{self.out.fileno()}", final, dst_dir_fd=self.folder)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links here: hold the name with an empty file, then rename over it.
            self._check_name()
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(final, flags, 0o600, dir_fd=self.folder))
            os.rename(self.name, final, src_dir_fd=self.folder, dst_dir_fd=self.folder)

    def _check_name(self) -> None:
        """Raise OSError where another file has the temporary name."""
        mine = os.fstat(self.out.fileno())
        if (mine.st_dev, mine.st_ino) != _identity(self.name, self.folder):
            raise OSError(errno.ESTALE, "another process changes files in this folder")

    def replace(self, final: str) -> None:
        """Give the file its final name, replacing an existing file. Raises OSError."""
        self._check_name()
        os.rename(self.name, final, src_dir_fd=self.folder, dst_dir_fd=self.folder)

    def unlink(self, final: str) -> None:
        """Remove a final name that `link` gave."""
        if _identity(self.name, self.folder) is not None:
            os.unlink(final, dir_fd=self.folder)
        else:
            os.rename(final, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)


def _identity(name: str, folder: int) -> tuple[int, int] | None:
    """Device and inode of a name in a folder; None: no such name."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _link_all(files: list[_File], finals: list[str]) -> bool:
    """Give all files their final names, or none: False when one of the names is taken."""
    done: list[tuple[_File, str]] = []
    try:
        for file, final in zip(files, finals, strict=True):
            file.link(final)
            done.append((file, final))
    except OSError as error:
        for file, final in done:
            file.unlink(final)
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def _publish_exact(files: list[_File], exact: ExactFile, domains: list[str]) -> list[str] | None:
    """Give the files exactly these names, and return those; None: another file has one of them."""
    finals = [
        os.path.basename(exact.beside(domain) if domain else exact.path) for domain in domains
    ]
    if not exact.replace:
        return finals if _link_all(files, finals) else None
    for file, final in zip(files, finals, strict=True):
        file.replace(final)
    return finals


def _publish(files: list[_File], stem: str, domains: list[str]) -> list[str] | None:
    """Give the files their final names, all with the same number, and return those."""
    parts = [f".{file_part(domain)}" if domain else "" for domain in domains]
    for number in range(1, NAMES_TRIED):
        finals = [f"{stem}.{number}{part}.heap" for part in parts]
        if any(_identity(final, files[0].folder) for final in finals):
            continue
        if _link_all(files, finals):
            return finals
    return None


@contextmanager
def _opened(prefix: str, count: int) -> Iterator[list[_File]]:
    folder, name = os.path.split(prefix)
    with ExitStack() as stack:
        opened = stack.enter_context(open_folder(folder or "."))
        files = []
        for _ in range(count):
            files.append(_File(opened, name))
            stack.callback(files[-1].close)
        yield files


def kept_hint(pid: int) -> str:
    """How to retry saving a capture that is still in its segment."""
    from mem_profiler.capture import gate

    command = "snapshot" if gate.runs(pid) else "stop"
    command = "recover" if procfs.is_gone(pid) else command
    return f"the capture is kept; save it with mem_profiler {command} {pid} -o PREFIX"


def write_files(
    prefix: Where, pid: int, fills: dict[str, Callable[[IO[bytes]], None]]
) -> list[str]:
    """Write PREFIX.<pid>.<n>.heap, and PREFIX.<pid>.<n>.<domain>.heap for every domain but "".

    `fills` write the contents, by domain; returns the paths in their order. An `ExactFile` has its
    own name, and domains have NAME.<domain>.heap. Raises MemError when a file cannot be written,
    and then leaves none.
    """
    exact = prefix if isinstance(prefix, ExactFile) else None
    path = exact.path if exact else str(prefix)
    shown = path if exact else f"{path}.{pid}.*.heap"
    folder, name = os.path.split(path)
    try:
        with _opened(path, len(fills)) as files:
            for file, fill in zip(files, fills.values(), strict=True):
                fill(file.out)
                file.out.flush()
                sudo.give(file.out.fileno(), file.folder)
                os.fsync(file.out.fileno())
            if exact is not None:
                finals = _publish_exact(files, exact, list(fills))
            else:
                finals = _publish(files, f"{name}.{pid}", list(fills))
    except OSError as error:
        kind = DiskFull if error.errno in FULL else MemError
        raise kind(f"cannot write {shown}: {error.strerror}", hint=kept_hint(pid)) from error
    if finals is None and exact is not None:
        raise MemError(f"cannot write {path}: the file exists already", hint=kept_hint(pid))
    if finals is None:
        raise MemError(
            f"all names {path}.{pid}.<n>.heap exist already",
            hint="give another name with -o PREFIX",
        )
    return [os.path.join(folder, final) for final in finals]
