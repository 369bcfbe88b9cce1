"""Find the file of a profile's module on this machine, and check that it is unchanged.

A file counts only if it has the recorded build-id. Where the profile has none (other tools' files),
the recorded mapping must at least fit the file, and its path must be whole: no profile says to
which folder a relative one belongs. A file that fails this gives no names; one that changed after
the capture gives names and a warning.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mem_parser.errors import InputFileError, reason_of
from mem_parser.model import Capture, Module, Profile
from mem_parser.plainfile import stored_bytes
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS, build_id_paths, search_debug_file
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.filefacts import FileFact
from mem_parser.symbols.modulelabels import is_relative, paths_of_builds
from mem_parser.symbols.table import SymbolProblem
from mem_parser.units import local_time

if TYPE_CHECKING:
    from mem_parser.symbols.debuginfod import Debuginfod

BUILD_ID_FACT = "buildid"
_PSEUDO = ("[", "//anon", "memfd:", "/memfd:", "anon_inode:", "/dev/", "/SYSV")


@dataclass(slots=True)
class ModuleFiles:
    """The files of one module: its own, its debug file, its bias, and any problem."""

    image: ElfImage | None
    debug: ElfImage | None
    bias: int | None
    problem: SymbolProblem | None = None


class Binary:
    """The program's own file as the user gave it; opened only for facts other than a build-id in
    ``cache``. Where another process reads files, a subclass of it asks that one (`remote_files`).
    """

    def __init__(self, path: str, cache: SymbolCache) -> None:
        """Raises `InputFileError` for a file that is not ELF."""
        self.path = path
        self._image: ElfImage | None = None
        fact = FileFact(cache, path, BUILD_ID_FACT)
        kept = fact.get()
        self.build_id = self.image.build_id if kept is None else kept
        if kept is None:
            fact.put(self.build_id)

    @property
    def image(self) -> ElfImage:
        """The open file. Raises `InputFileError`."""
        if self._image is None:
            self._image = open_binary(self.path)
        return self._image

    def fits(self, module: Module) -> bool:
        """Tell whether it can be the file of ``module``. Raises `InputFileError`."""
        return is_file_of(module, self.image)


class Modules(Protocol):
    """As much of a profile as finding files needs."""

    modules: list[Module]
    capture: Capture


class ModuleFinder:
    """Finds files for the modules of one profile. ``binary`` is the program's own file, as the user
    names it, and ``open_given`` opens that.
    """

    def __init__(
        self,
        profile: Modules,
        binary: str | None = None,
        debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS,
        debuginfod: Debuginfod | None = None,
        cache: SymbolCache | None = None,
        *,
        open_given: Callable[[str, SymbolCache], Binary] = Binary,
    ) -> None:
        self._profile = profile
        self.debuginfod = debuginfod
        self.debug_dirs = debug_dirs
        self._cache = cache or SymbolCache(None)
        self._paths = paths_of_builds(profile.modules)
        self._found: dict[str, str] = {}
        try:
            self._binary = open_given(binary, self._cache) if binary is not None else None
        except InputFileError as error:  # a start script, say
            raise InputFileError(str(error), hint=self._whose()) from error
        self.given = binary
        self.main = self._find_main()
        if self._binary is not None and self.main is None and profile.modules:
            self._refuse_binary(self._binary)

    def files_of(self, module: Module) -> ModuleFiles:
        """Return the usable files of ``module``."""
        if not may_have_file(module):
            return ModuleFiles(None, None, module.bias)
        image, problem = self._open(module)
        build_id = module.build_id or (image.build_id if image else "")
        search = search_debug_file(build_id, image, self.debug_dirs)
        debug = search.image
        if debug is None and self.debuginfod is not None and not (image and image.has_dwarf):
            debug = self.debuginfod.find(build_id)
        if debug is not None:
            problem = None if module.build_id else problem
        elif problem is None and search.refused and not (image and image.has_dwarf):
            problem = _refused(module, search.refused)
        bias = module.bias
        if bias is None and (image or debug) is not None:
            bias = _bias(module, image or debug)
        if image is None and debug is not None and problem is not None:
            problem = None
        return ModuleFiles(image, debug, bias, problem)

    def rights(self) -> dict[str, Any]:
        """Return the rights that a `Job` that reads names needs besides reading."""
        servers = [] if self.debuginfod is None else [self.debuginfod.folder]
        return {
            "folders": (*self._cache.folders(), *servers),
            "helpers": True,
            "network": self.debuginfod is not None,
        }

    def stored_bytes(self, module: Module) -> int:
        """Return the stored bytes of the files to read for ``module``."""
        return stored_bytes(self.path_of(module), *build_id_paths(module.build_id, self.debug_dirs))

    def path_of(self, module: Module) -> str:
        """Return the file to read for ``module``: of its copies the first that is there."""
        if self._binary is not None and self._is_main(module):
            return self._binary.path
        copies = self._copies(module)
        if len(copies) == 1:
            return copies[0]
        if module.build_id not in self._found:
            self._found[module.build_id] = next(filter(os.path.exists, copies), copies[0])
        return self._found[module.build_id]

    def is_given(self, module: Module) -> bool:
        """Tell whether a file that the user names stands for that of ``module``."""
        given = self._binary is not None and self._is_main(module)
        return given and self.path_of(module) != module.path

    def as_found(self, module: Module) -> Module:
        """Return ``module`` with the path that the user gave, for a reader in another process."""
        given = self.is_given(module)
        return dataclasses.replace(module, path=self.path_of(module)) if given else module

    def _copies(self, module: Module) -> tuple[str, ...]:
        """Return the paths of ``module``; the first is the one that it goes by."""
        return self._paths.get(module.build_id, (module.path,))

    def _open(self, module: Module) -> tuple[ElfImage | None, SymbolProblem | None]:
        if self._binary is not None and self._is_main(module):
            return self._check(module, self._binary.image, given=True)
        if is_relative(module.path) and not module.build_id:
            return None, _placeless(module)
        path = self.path_of(module)
        fact = FileFact(self._cache, path, BUILD_ID_FACT)
        try:
            image = ElfImage.open(path)
        except (BadElf, OSError, ValueError) as error:
            return None, self._unreadable(module, error)
        fact.put(image.build_id)
        return self._check(module, image, given=False)

    def refused(self, module: Module) -> SymbolProblem | None:
        """Return why there are no names for ``module``; None if there may be some, or only an open
        file can tell.
        """
        given = self._binary is not None and self._is_main(module)
        paths = build_id_paths(module.build_id, self.debug_dirs)
        if given or not module.build_id or self.debuginfod or any(map(os.path.exists, paths)):
            return None
        path = self.path_of(module)
        try:
            os.stat(path)
        except (OSError, ValueError) as error:
            return self._unreadable(module, error)
        found = FileFact(self._cache, path, BUILD_ID_FACT).get()
        return None if found in (None, module.build_id) else self._changed(module, path)

    def _is_main(self, module: Module) -> bool:
        return self.main is not None and module.path == self.main.path

    def _check(
        self, module: Module, image: ElfImage, *, given: bool
    ) -> tuple[ElfImage | None, SymbolProblem | None]:
        if is_file_of(module, image) and (given or module.build_id or not module.deleted):
            return image, None
        return None, self._changed(module, image.path)

    def _unreadable(self, module: Module, error: Exception) -> SymbolProblem:
        copies = self._copies(module)
        reason = str(error) if isinstance(error, BadElf) else reason_of(error)
        many = f" (one of {len(copies)} copies)" if len(copies) > 1 else ""
        text = f"{self.path_of(module)}{many}: {reason}; it is shown without names"
        return SymbolProblem(copies[0], text, _cure(module))

    def _changed(self, module: Module, path: str) -> SymbolProblem:
        if module.build_id:
            why = "is not the file that was profiled (its build-id differs)"
        elif module.deleted:
            why = "was replaced while the program ran"
        else:
            why = "is not the file that was profiled (the process mapped it differently)"
        cure = _cure(module)
        if cure:
            cure = f"{cure}; a capture with --symbolize keeps its names"
        text = f"{path} {why}; it is shown without names"
        return SymbolProblem(self._copies(module)[0], text, cure)

    # The program itself.

    def _find_main(self) -> Module | None:
        modules = self._profile.modules
        exe = self._profile.capture.exe
        if self._binary is not None:
            return self._match_binary(self._binary)
        for module in modules:
            if exe and module.path == exe.removesuffix(" (deleted)"):
                return module
        return next((m for m in modules if _is_program(m)), None)

    def _match_binary(self, binary: Binary) -> Module | None:
        """Return the module that the user's binary is: same build-id, same path, or same name."""
        modules = self._profile.modules
        real = os.path.realpath(binary.path)
        by_id = (m for m in modules if m.build_id and m.build_id == binary.build_id)
        by_path = (m for m in modules if os.path.realpath(m.path) == real)
        by_name = (m for m in modules if m.name in (os.path.basename(real), _base(binary.path)))
        named = next((m for k in (by_id, by_path, by_name) for m in k), None)
        if named is not None:
            return named
        programs = [m for m in modules if _is_program(m) and not m.build_id]
        return programs[0] if programs and binary.fits(programs[0]) else None

    def _refuse_binary(self, binary: Binary) -> None:
        text = f"{binary.path}: not the program of this profile"
        exe = self._exe().removesuffix(" (deleted)")
        own = next((m.build_id for m in self._profile.modules if m.path == exe), "")
        known = f"its build-id is {binary.build_id}, not {own}" if own and binary.build_id else None
        raise InputFileError(text, hint="; ".join(filter(None, (known, self._whose()))))

    def _whose(self) -> str | None:
        exe = self._exe()
        return f"the profile is of {exe}" if exe else None

    def _exe(self) -> str:
        programs = (m.path for m in self._profile.modules if _is_program(m))
        return self._profile.capture.exe or next(programs, "")


def fits(profile: Modules, binary: str) -> bool:
    """Tell whether the file at ``binary`` is the program of a profile, by its build-id; where the
    profile has none, by path, name or mappings.
    """
    try:
        main = ModuleFinder(profile, binary).main
        return main is not None and main.build_id in ("", open_binary(binary).build_id)
    except InputFileError:
        return False


def may_have_file(module: Module) -> bool:
    """Tell whether the module's path can be that of a file: not the vdso, or shared memory."""
    return not module.path.startswith(_PSEUDO)


def open_binary(path: str) -> ElfImage:
    """Open the file given with -p. Raises `InputFileError`."""
    try:
        return ElfImage.open(path)
    except BadElf as error:
        raise InputFileError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path}: {reason_of(error)}") from error


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _is_program(module: Module) -> bool:
    return module.path.startswith("/") and ".so" not in module.name


def _cure(module: Module) -> str | None:
    known = f"--debug-dir DIR: a folder with the file of build-id {module.build_id}"
    return known if module.build_id else None


def _placeless(module: Module) -> SymbolProblem:
    return SymbolProblem(
        module.path,
        f"{module.path}: the profile does not say in which folder it is; it is shown without names",
    )


def changed_since(profile: Profile, module: Module, path: str) -> SymbolProblem | None:
    """Return a warning if the file at ``path``, from which ``module`` has its names, changed after
    the capture; None where a build-id vouches for it, or a time is unknown.
    """
    captured = profile.captured_at_s
    if module.build_id or captured is None or not may_have_file(module):
        return None
    try:
        changed = os.stat(path).st_mtime
    except (OSError, ValueError):
        return None
    if changed <= captured:
        return None
    return SymbolProblem(
        module.path,
        f"{path} changed at {local_time(changed)}, after the capture at {local_time(captured)}, "
        "and the profile has no build-id of it; its names may be wrong",
        names_missing=False,
    )


def _refused(module: Module, refused: Sequence[str]) -> SymbolProblem:
    """Report debug files at the module's places that belong to another module."""
    return SymbolProblem(
        module.path,
        f"{refused[0]} from what {module.path} says of its debug file; it is not used",
    )


def is_file_of(module: Module, image: ElfImage) -> bool:
    """Tell whether ``image`` has the build-id of ``module``, or without one fits its mappings."""
    if module.build_id:
        return module.build_id == image.build_id
    return all(
        image.bias_of(r.start, r.file_offset, r.end - r.start) is not None for r in module.ranges
    )


def _bias(module: Module, image: ElfImage | None) -> int | None:
    for r in module.ranges if image is not None else ():
        bias = image.bias_of(r.start, r.file_offset, r.end - r.start) if image else None
        if bias is not None:
            return bias
    return None
