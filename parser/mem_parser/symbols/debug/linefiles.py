"""The table of files and folders in the header of a line program."""

from __future__ import annotations

import os.path

from mem_parser.symbols.debug.abbreviations import Layout, Value, read_value
from mem_parser.symbols.debug.bits import Damaged, behind_text, number, uleb
from mem_parser.symbols.debug.constants import Form
from mem_parser.symbols.debug.sections import Sections

_PATH, _FOLDER = 1, 2


class FileTable:
    """Paths by the numbers that rows and calls have for them."""

    def __init__(
        self, data: bytes, sections: Sections, layout: Layout, comp_dir: str | None
    ) -> None:
        self._data = data
        self._sections = sections
        self._layout = layout
        self._comp_dir = comp_dir
        self.folders: list[Value] = []
        self.files: list[tuple[Value, int]] = []
        """Of each file its name, and the number of its folder."""
        self._paths: dict[int, str] = {}

    def path_of(self, number: int) -> tuple[str, bool]:
        """Return the path of a file, empty for an unknown one, and whether it is whole: the unit's
        folder may be unknown. Raises `Damaged`, OSError.
        """
        path = self._paths.get(number)
        if path is None:
            path = self._paths[number] = self._path_of(number)
        is_whole = self._comp_dir is not None or not path or os.path.isabs(path)
        return path, is_whole

    def _path_of(self, number: int) -> str:
        first = 0 if self._layout.version >= 5 else 1
        if not first <= number < first + len(self.files):
            return ""
        name, folder = self.files[number - first]
        return os.path.join(self._comp_dir or "", self._folder(folder), self._text(name))

    def _folder(self, number: int) -> str:
        if self._layout.version < 5:
            if number == 0:
                return ""  # the unit's own
            number -= 1
        return self._text(self.folders[number]) if 0 <= number < len(self.folders) else ""

    def _text(self, value: Value) -> str:
        data, at = self._data, value.number
        if value.form == Form.STRING:
            return data[at : behind_text(data, at) - 1].decode("utf-8", "surrogateescape")
        if value.form == Form.LINE_STRP:
            return self._sections.get("line_str").text(at)
        if value.form == Form.STRP:
            return self._sections.get("str").text(at)
        if value.form in (Form.STRX, Form.STRX1, Form.STRX2, Form.STRX3, Form.STRX4):
            width = self._layout.offset_bytes
            offset = self._sections.get("str_offsets").read(2 * width + at * width, width)
            return self._sections.get("str").text(number(offset, 0, width, self._layout.order))
        raise Damaged("has the name of a file in an unknown form")


def read_files(
    data: bytes, at: int, layout: Layout, sections: Sections, comp_dir: str | None
) -> FileTable:
    """Return the table at ``at`` of the line program ``data``. Raises `Damaged`, IndexError."""
    table = FileTable(data, sections, layout, comp_dir)
    if layout.version >= 5:
        rows, at = _rows_5(data, at, layout)
        table.folders = [name for name, _ in rows]
        table.files, _ = _rows_5(data, at, layout)
        return table
    while data[at]:
        table.folders.append(Value(Form.STRING, at))
        at = behind_text(data, at)
    at += 1
    while data[at]:
        name = Value(Form.STRING, at)
        folder, at = uleb(data, behind_text(data, at))
        _, at = uleb(data, at)  # time
        _, at = uleb(data, at)  # size
        table.files.append((name, folder))
    return table


def _rows_5(data: bytes, at: int, layout: Layout) -> tuple[list[tuple[Value, int]], int]:
    """Return the names and folders of a list of version 5, and where it ends."""
    kinds = []
    count, at = data[at], at + 1
    for _ in range(count):
        kind, at = uleb(data, at)
        form, at = uleb(data, at)
        kinds.append((kind, form, layout.step_of(form)))
    rows: list[tuple[Value, int]] = []
    count, at = uleb(data, at)
    if count > len(data) - at or (count and not kinds):  # each has a byte at least
        raise Damaged("has too many files")
    for _ in range(count):
        name, folder = Value(Form.STRING, len(data)), 0
        for kind, form, step in kinds:
            value, at = read_value(data, at, form, step, layout)
            if kind == _PATH:
                name = value
            elif kind == _FOLDER:
                folder = value.number
        rows.append((name, folder))
    return rows, at
