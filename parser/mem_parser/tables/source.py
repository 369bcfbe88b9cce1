"""The tables of one file: a run of logs, or a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from mem_parser.memlog.part import Part
from mem_parser.memlog.profiles import domains_of, profiles_of
from mem_parser.memlog.run import Run
from mem_parser.model import Profile
from mem_parser.tables import sitetables
from mem_parser.tables.columns import Columns
from mem_parser.tables.frametables import FrameTables, Named
from mem_parser.tables.logtables import LogTables
from mem_parser.tables.schema import TABLES

Namer = Callable[[str, Profile], Named]
"""Names all stacks of the profile of a file."""


class TableSource:
    """The content of a file for each table. Everything is read, added up and named lazily."""

    def __init__(self, file: str, namer: Namer) -> None:
        self.file, self._namer = file, namer

    @property
    def profiles(self) -> Sequence[Profile]:
        """A profile for each memory; all have the same stacks. Raises MemError."""
        raise NotImplementedError

    @property
    def part_ns(self) -> tuple[int, int] | None:
        """First and last moment of a log; None for other files. Raises UsageProblem."""
        return None

    def parts(self, table: str) -> Iterator[Columns]:
        """Yield the columns of a table, some rows at a time; none where the file has no such rows.

        Raises MemError.
        """
        own = getattr(self, f"_{table}")
        assert table in {t.name for t in TABLES}
        yield from own()

    @cached_property
    def _frame_tables(self) -> FrameTables:
        return FrameTables(self._namer(self.file, self.profiles[0]), self.file)

    def _stacks(self) -> Iterator[Columns]:
        return self._frame_tables.stacks()

    def _frames(self) -> Iterator[Columns]:
        return self._frame_tables.frames()

    def _sites(self) -> Iterator[Columns]:
        for profile in self.profiles:
            yield sitetables.sites(profile, self.file)

    def _captures(self) -> Iterator[Columns]:
        yield sitetables.captures(self.profiles, self.file, self.part_ns)

    def _marks(self) -> Iterator[Columns]:
        yield sitetables.marks(self.profiles[0], self.file, self.part_ns)


class ProfileSource(TableSource):
    """The tables of a profile that is not a log's."""

    def __init__(self, file: str, profile: Profile, namer: Namer) -> None:
        super().__init__(file, namer)
        self._profile = profile

    @property
    def profiles(self) -> Sequence[Profile]:
        """The profile."""
        return [self._profile]

    def _events(self) -> Iterator[Columns]:
        return iter(())

    _blocks = _holes = _events

    def _readings(self) -> Iterator[Columns]:
        return sitetables.readings(self._profile, self.file)


class LogSource(TableSource):
    """The tables of a part of a run of logs; ``run`` stays open as long as they are read."""

    def __init__(self, file: str, run: Run, part: Part, namer: Namer) -> None:
        super().__init__(file, namer)
        self._run, self._part = run, part._replace(every_domain=True)

    @cached_property
    def profiles(self) -> Sequence[Profile]:
        """A profile for each memory."""
        domains_of(self._run, self._part)
        return profiles_of(self._run, self._part)

    @cached_property
    def part_ns(self) -> tuple[int, int]:
        """First and last moment of the part."""
        return self._part.times_ns(self._run)

    @cached_property
    def _log(self) -> LogTables:
        low, high = (None, None) if self._part.is_whole else self.part_ns
        return LogTables(self._run, self.file, low, high)

    def _events(self) -> Iterator[Columns]:
        return self._log.events()

    def _blocks(self) -> Iterator[Columns]:
        return self._log.blocks()

    def _readings(self) -> Iterator[Columns]:
        return self._log.readings()

    def _holes(self) -> Iterator[Columns]:
        return self._log.holes()
