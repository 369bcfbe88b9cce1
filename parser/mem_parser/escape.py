r"""Make untrusted text harmless for a medium: one function for each medium.

The author of a program chooses the names of its functions, files, threads and processes, which may
contain anything. Every output passes texts through the function of its medium, once, where it
builds the output:

    one_line     text on a terminal: what it would act on or hide becomes visible (\x1b, \u202e)
    log_line     a whole line of output, which continuous integration reads too
    visible      all texts of a JSON value
    json_text    a JSON document           csv_cell       a cell that is no formula
    html_text    HTML                      script_json    JSON inside a page
    xml_text     XML 1.0                   xml_document   the whole of it
    dot_label    a label of Graphviz       markdown_text  Markdown outside code
    markdown_code  a code span             github_command a workflow command
    sarif_text   a message of SARIF        shell_word     a word to paste into a shell
    file_part    part of a file's name

`##word[` is a command to GitHub (`##[error]`), Azure and TeamCity anywhere in a line; a line that
begins with `::`, after blanks too, is one to GitHub. JSON and XML can write the same text in other
characters; elsewhere the first of these characters becomes visible like a control character.
"""

from __future__ import annotations

import codecs
import html
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show nothing: comparisons by language pass over them."""
_SPELL = codecs.lookup("unicode_escape").encode
"""Found here, since a reader without rights can no longer load a codec."""
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_MARKED = re.compile(r"##(?=\w*\[)")
_COMMAND = re.compile(r"^( *):(?=:)")
_XML_COMMAND = re.compile(r"^([ \t]*):(?=:)", re.MULTILINE)
_FORMULA = ("=", "+", "-", "@", "|", "%", "::")
_LONGEST_PART = 120
_PATHS_MAX = 3
_NOTHING_WIDE = "&#8203;"
"""Between two characters of a Markdown text: they are no mention, no reference and no address."""


def _shown(char: str) -> bool:
    return char.isprintable() and not _UNSEEN.match(char)


def _spelled(found: re.Match[str]) -> str:
    char = found[0]
    return char if _shown(char) else _SPELL(char)[0].decode("ascii")


def one_line(text: str) -> str:
    """Return ``text`` with every character visible that a terminal would act on or not show."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_PLAIN.sub(_spelled, text)


def log_line(text: str) -> str:
    """Return ``text`` as a line of output that log readers (CI) do not take for a command."""
    text = one_line(text)
    if "##" in text:
        text = _MARKED.sub(r"#\\x23", text)
    return _COMMAND.sub(r"\1\\x3a", text) if "::" in text else text


def log_text(text: str) -> str:
    """Return ``text`` with each of its lines as `log_line` gives it."""
    return "\n".join(log_line(line) for line in text.split("\n"))


def visible(data: Any) -> Any:
    """Return JSON data with every text in it, keys too, as `one_line` gives it."""
    if isinstance(data, str):
        return one_line(data)
    if isinstance(data, Mapping):
        return {visible(key): visible(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [visible(value) for value in data]
    return data


def json_text(data: Any, *, indent: int | None = None) -> str:
    r"""Return JSON: invisible characters become \uXXXX, lone surrogates become visible.

    Raises ValueError for a number that JSON does not have.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(
        data, indent=indent, ensure_ascii=False, allow_nan=False, separators=separators
    )
    text = _MARKED.sub(r"#\\u0023", text)
    return _NOT_PLAIN.sub(_json_char, text)


def _json_char(found: re.Match[str]) -> str:
    char = found[0]
    if char == "\n" or _shown(char):
        return char
    if "\ud800" <= char <= "\udfff":
        return f"\\\\u{ord(char):04x}"
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"


def json_ascii(data: Any, *, allow_nan: bool = True) -> str:
    """Return ASCII-only JSON that decodes to the same texts."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=allow_nan, separators=(",", ":"))
    return _MARKED.sub(r"#\\u0023", text)


def script_json(data: Any) -> str:
    """Return ``data`` as JSON that is safe inside a script element."""
    text = json_ascii(visible(data), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def html_text(text: str) -> str:
    """Return ``text`` as HTML, also inside quotes."""
    text = html.escape(one_line(text))
    return _COMMAND.sub(r"\1&#58;", _MARKED.sub("#&#35;", text))


def xml_text(text: str) -> str:
    """Return ``text`` as a text or attribute of an element tree: only what XML 1.0 allows."""
    return one_line(text)


def xml_document(root: ET.Element) -> str:
    """Return an element tree as a document that no reader of logs takes for commands.

    Its texts and attributes have gone through `xml_text`, or come from an XML parser.
    """
    from xml.etree import ElementTree as ET

    body = ET.tostring(root, encoding="unicode")
    body = _XML_COMMAND.sub(r"\1&#58;", _MARKED.sub("#&#35;", body))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def csv_cell(value: Any) -> Any:
    """Return a cell: a text that a spreadsheet or a log would act on has a `'` in front."""
    if not isinstance(value, str):
        return value
    text = _MARKED.sub(r"#\\x23", one_line(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def dot_label(lines: Iterable[str], end: str) -> str:
    """Return a label of Graphviz with ``end`` (its escape) after each line: backslashes and
    entities mean themselves, and it is never markup.
    """
    escaped = (one_line(line).replace("\\", "\\\\").replace("&", "&amp;") for line in lines)
    return "".join(line + end for line in escaped)


def github_command(level: str, properties: Mapping[str, str], lines: Iterable[str]) -> str:
    """Return `::level name=value,...::lines`, one line whatever the texts hold."""
    named = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{level} {named}::{'%0A'.join(map(_data, lines))}"


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def markdown_text(text: str) -> str:
    """Return ``text`` without characters that Markdown, HTML or GitHub would act on."""
    text = re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(one_line(text), quote=False))
    text = re.sub(r"^( *)([-+=]|\d{1,9}(?=[.)](?: |$)))", r"\1&#8203;\2", text)
    return _without_links(text)


def markdown_row(cells: Iterable[str]) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"


def markdown_html(text: str) -> str:
    """Return ``text`` for an HTML element inside Markdown."""
    return _without_links(html.escape(one_line(text), quote=False))


def _without_links(text: str) -> str:
    text = re.sub(r"(?<!&)#|@", rf"\g<0>{_NOTHING_WIDE}", text)
    return re.sub(r"(?i):(?=//)|www(?=\.)|\bgh(?=-\d)", rf"\g<0>{_NOTHING_WIDE}", text)


def markdown_code(text: str) -> str:
    """Return a code span that no text can end early."""
    text = _MARKED.sub(r"#\\x23", one_line(text)) or " "
    runs = [len(run) for run in re.findall(r"`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {text} {fence}" if runs else f"`{text}`"


def sarif_text(text: str) -> str:
    """Return ``text`` as a message of SARIF, in which `[a](b)` would be a link."""
    return re.sub(r"\[(?=[^\]]*\]\()", r"\\[", one_line(text))


def shell_word(word: str) -> str:
    """Return ``word`` quoted for a shell, so that pasting it yields the same bytes."""
    if one_line(word) == word and not _MARKED.search(word):
        return shlex.quote(word)
    return "$'" + "".join(map(_shell_char, word)) + "'"


def _shell_char(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char != "#" and _shown(char):
        return char
    raw = char.encode(
        "utf-8", "surrogatepass" if not "\udc80" <= char <= "\udcff" else "surrogateescape"
    )
    return "".join(f"\\x{byte:02x}" for byte in raw)


def shell_path(path: str) -> str:
    """Return a file's path as a word of a command, which does not take it for an option."""
    return shell_word(f"./{path}" if path.startswith("-") else path)


def shell_paths(paths: Sequence[str], *, but_some: bool = False) -> str:
    """Return files as words of a command; of many captures of one prefix (PREFIX.PID.N.heap) their
    pattern, unless it means others too (``but_some``), of other ones `FILE...`.
    """
    if len(paths) <= _PATHS_MAX:
        return " ".join(map(shell_path, paths))
    if but_some:
        return "FILE..."
    prefixes = {path.rsplit(".", 3)[0] if path.count(".") >= 3 else "" for path in paths}
    if len(prefixes) > 1 or "" in prefixes or not all(path.endswith(".heap") for path in paths):
        return "FILE..."
    return f"{shell_path(*prefixes)}.*.heap"


def shell_join(words: Iterable[str]) -> str:
    """Return a command of these words."""
    return " ".join(map(shell_word, words))


def shell_lines(parts: Iterable[str], width: int = 80, indent: str = "  ") -> Iterator[str]:
    """Yield a command of ``parts``, which are shell text, in lines of ``width`` columns where no
    part is longer; pasted, the lines are one command.
    """
    line = indent
    for part in parts:
        blank = " " if line.strip() else ""
        # A line that goes on needs room for its mark.
        if blank and len(line) + 1 + len(part) + 2 > width:
            yield f"{line} \\"
            line, blank = 2 * indent, ""
        line += blank + part
    yield line


def file_part(text: str) -> str:
    """Return ``text`` as part of a file's name: letters, digits, `_`, inner `.` and `-`."""
    part = re.sub(r"[^\w.-]+", "_", one_line(text)).lstrip("-.").rstrip(".")
    return part[:_LONGEST_PART] or "_"


def utf8(text: str) -> bytes:
    """Return ``text`` as UTF-8; bytes that were not UTF-8 when read come out unchanged."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
