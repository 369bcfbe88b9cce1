"""Draw a call graph as one SVG file that pans and zooms in a browser by itself.

Graphviz lays it out (`mem_parser.reports.layout`), first at full quality; a graph that takes too
long is drawn with fewer, straight edges and a cheaper layout. Labels are hostile input (they are
symbol names): they are escaped for DOT here, by Graphviz for XML, and the drawing is parsed and
written anew, so that nothing but elements Graphviz makes, and the script of this file, is in the
result.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from importlib import resources

import graphviz

from mem_parser.errors import MemError
from mem_parser.escape import dot_label, one_line, xml_document, xml_text
from mem_parser.reports.edges import Edge
from mem_parser.reports.graph import CallGraph, without_detail
from mem_parser.reports.grid import amount
from mem_parser.reports.layout import LayoutError, lay_out
from mem_parser.units import format_value, percent

_LAYOUT_S = 1.5
"""How long the best layout may take; graphs of most programs take a tenth of that."""
_PAINT_S = 3.5
"""How much longer the pixels of a PNG may take."""
_SIMPLE_LAYOUT_S = 10.0
"""How long the simpler one may take, whose time hardly depends on the graph."""
_SIMPLE = {"splines": "line", "nslimit": "1", "nslimit1": "1", "mclimit": "0.1", "searchsize": "5"}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_WRAP = 36
_LONGEST_NAME = 240
_SMALLEST_FONT, _LARGEST_FONT = 9.0, 34.0
_Colour = tuple[int, int, int]
_FILL = ((245, 243, 240), (237, 193, 175), (175, 210, 242))
_LINE = ((130, 130, 130), (180, 20, 10), (20, 70, 190))
_DARK_FILL = ((48, 51, 57), (122, 44, 36), (28, 66, 124))
"""Each for little, for much (red), and for what shrank (blue); graph_drawing.js has the same."""
_STYLE = """
svg { background: #ffffff; }
.heading { font-weight: bold; }
@media screen and (prefers-color-scheme: dark) {
  svg { background: #16181c; }
  text { fill: #eceef1; }
  .graph > polygon { fill: none; }
  .node > polygon { fill: var(--dark); stroke: #a3a9b3; }
  .edge > path { stroke: #a3a9b3; }
  .edge > polygon { fill: #a3a9b3; stroke: #a3a9b3; }
}
"""
"""Paper is white whatever the screen is."""


def draw_svg(graph: CallGraph) -> str:
    """Return the SVG document. Raises `MemError` if there is nothing to draw with."""
    return _finish(*_drawn(graph, "svg", _LAYOUT_S))


def draw_png(graph: CallGraph) -> bytes:
    """Return the picture as PNG, without the tooltips and script of SVG. Raises `MemError` if there
    is nothing to draw with.
    """
    try:
        return _drawn(graph, "png", _LAYOUT_S + _PAINT_S)[0]
    except MemError as error:
        hint = error.hint or "-o x.svg: SVG needs no library for pictures"
        raise MemError(f"cannot draw PNG: {error}", hint=hint) from error


def _drawn(graph: CallGraph, form: str, timeout_s: float) -> tuple[bytes, CallGraph]:
    """Return the drawing, and what it shows of the graph. Raises `MemError`."""
    try:
        return lay_out(dot_source(graph), timeout_s, form), graph
    except LayoutError as first:
        simple = without_detail(graph)
        try:
            return lay_out(dot_source(simple, simple=True), _SIMPLE_LAYOUT_S, form), simple
        except LayoutError as second:
            raise MemError(f"{first}, and in a simpler layout: {second}") from second


def dot_source(graph: CallGraph, *, simple: bool = False) -> str:
    """Return the graph in DOT; ``simple``: in a layout that takes less time."""
    dot = graphviz.Digraph(
        "calls",
        graph_attr={
            "label": _text([graph.heading, *graph.legend], "\\l"),
            "labelloc": "t",
            "labeljust": "l",
            "fontsize": "16",
            "fontname": "Helvetica",
            "nodesep": "0.2",
            "ranksep": "0.4",
            **(_SIMPLE if simple else {}),
        },
        node_attr={"shape": "box", "style": "filled", "fontname": "Helvetica"},
        edge_attr={
            "fontname": "Helvetica",
            "fontsize": "11",
            "color": "#606060",
            "arrowsize": "0.6",
        },
    )
    for k in range(len(graph.nodes)):
        label = _node_label(k, graph)
        dot.node(f"n{k}", _text(label, "\\n"), **_node_style(k, graph))
    for edge in graph.edges:
        share = edge.value / graph.total if graph.total else 0.0
        dot.edge(
            f"n{edge.caller}",
            f"n{edge.callee}",
            _text([" " + _edge_label(edge, graph)], "\\n"),
            penwidth=f"{1 + 5 * min(share, 1.0):.2f}",
            weight=str(1 + int(100 * min(share, 1.0))),
            style="dashed" if edge.indirect else "solid",
        )
    return str(dot.source)


def _edge_label(edge: Edge, graph: CallGraph) -> str:
    text = format_value(edge.value, graph.unit)
    if not edge.change:
        return text
    sign = "+" if edge.change > 0 else ""
    return f"{text} ({sign}{format_value(edge.change, graph.unit)})"


def _node_label(k: int, graph: CallGraph) -> list[str]:
    row = graph.nodes[k]
    flat, cum = row.flat.value, row.cum.value
    lines = _wrapped(row.name)
    lines.append(f"{format_value(flat, graph.unit)} ({percent(flat, graph.total)})")
    beside = cum - flat > 1e-9 * max(cum, 1.0)
    if beside:
        lines.append(f"of {format_value(cum, graph.unit)} ({percent(cum, graph.total)})")
    if graph.changes is not None:
        change = graph.changes[k]
        mark = "~" if _in_noise(k, graph) else "+" if change.value > 0 else ""
        text = f"{mark}{amount(change, graph.unit)}" if change.value else "unchanged"
        lines.append(f"total {text}" if beside else text)
    return lines


def _in_noise(k: int, graph: CallGraph) -> bool:
    return graph.beyond_noise is not None and not graph.beyond_noise[k]


def _weight(k: int, graph: CallGraph) -> float:
    """Return the part that a function's own blocks are of the total; of a graph of changes the part
    that its own change is of the largest one, 0 for noise.
    """
    if graph.own_changes is None:
        return graph.nodes[k].flat.value / graph.total if graph.total else 0.0
    most = max(map(abs, graph.own_changes))
    return 0.0 if _in_noise(k, graph) or not most else abs(graph.own_changes[k]) / most


def _node_style(k: int, graph: CallGraph) -> dict[str, str]:
    weight, strength = _weight(k, graph), _strength(k, graph)
    size = _SMALLEST_FONT + (_LARGEST_FONT - _SMALLEST_FONT) * math.sqrt(min(max(weight, 0.0), 1.0))
    fill, line = _shade(_FILL, strength), _shade(_LINE, strength)
    return {"fontsize": f"{size:.1f}", "fillcolor": fill, "color": line}


def _strength(k: int, graph: CallGraph) -> float:
    """Return from 0 for little to 1 for all of the total, or of the largest change; below 0 for
    what shrank, 0 for noise.
    """
    if graph.changes is None:
        share = graph.nodes[k].cum.value / graph.total if graph.total else 0.0
        return math.sqrt(min(max(share, 0.0), 1.0))
    most, change = max(abs(c.value) for c in graph.changes), graph.changes[k].value
    return (
        0.0
        if _in_noise(k, graph) or not most
        else math.copysign(math.sqrt(abs(change) / most), change)
    )


def _shade(colours: tuple[_Colour, _Colour, _Colour], strength: float) -> str:
    """Return a mix: the first of ``colours`` at strength 0, the others at 1 and at -1."""
    end = colours[1] if strength >= 0 else colours[2]
    mixed = [a + (b - a) * abs(strength) for a, b in zip(colours[0], end, strict=True)]
    return "#" + "".join(f"{round(c):02x}" for c in mixed)


def _wrapped(name: str) -> list[str]:
    """Return ``name`` in lines of a width that a box can have, broken after `::` and blanks."""
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "…"
    lines, current = [], ""
    name = one_line(name)
    for piece in name.replace("::", "::\0").replace(" ", " \0").split("\0"):
        if current and len(current) + len(piece) > _WRAP:
            lines.append(current)
            current = ""
        current += piece
    return [line.strip() for line in [*lines, current] if line.strip()] or [name]


def _text(lines: list[str], end: str) -> str:
    # A text in angle brackets would be markup to DOT; this one ends in an escape, so it never is.
    return str(graphviz.nohtml(dot_label(lines, end)))


def _finish(drawing: bytes, graph: CallGraph) -> str:
    """Return the drawing filling its window, with title, tooltips, colours and the script."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    try:
        root = ET.fromstring(drawing)  # noqa: S314  the layout program is ours to trust
    except ET.ParseError as error:
        raise MemError(f"the layout program wrote no SVG ({error})") from error
    root.set("width", "100%")
    root.set("height", "100%")
    root.set("preserveAspectRatio", "xMidYMin meet")
    root.set("lang", "en")
    _set_titles(root, graph)
    title, style = (ET.Element(f"{{{_SVG}}}{name}") for name in ("title", "style"))
    title.text, style.text = xml_text(graph.heading), _STYLE
    root[:0] = [title, style]
    script = ET.SubElement(root, f"{{{_SVG}}}script")
    script.text = resources.files(__package__).joinpath("panzoom.js").read_text("utf-8")
    return xml_document(root)


def _set_titles(root: ET.Element, graph: CallGraph) -> None:
    """Make tooltips show the whole name instead of a node's number; boxes get a dark colour too."""
    names = {f"n{k}": xml_text(row.name) for k, row in enumerate(graph.nodes)}
    darks = {f"n{k}": _shade(_DARK_FILL, _strength(k, graph)) for k in range(len(graph.nodes))}
    for group in root.iter(f"{{{_SVG}}}g"):
        title = group.find(f"{{{_SVG}}}title")
        if title is None or title.text is None:
            continue
        box = group.find(f"{{{_SVG}}}polygon")
        if title.text in darks and box is not None:
            box.set("style", f"--dark: {darks[title.text]}")
        ends = title.text.split("->")
        title.text = " → ".join(names.get(end, end) for end in ends)
        if group.get("class") == "graph":
            group.remove(title)
            heading = group.find(f"{{{_SVG}}}text")
            if heading is not None:
                heading.set("class", "heading")
