"""Which blocks are inefficient, from the definition told event by event."""

from mem_parser.memscope.inefficient import EARLY, IDLE, LATE


def by_definition(rows: list[tuple[str, int, str]], threshold: int) -> dict[int, set[str]]:
    """Labels of one process and family, from the algorithm told event by event.

    Rows are (what, block, _); an ID is a place from 1 on.
    """
    api, inside = 0, False
    pending: list[str] = []
    last = {"malloc": -1, "free": -1}
    blocks: dict[int, list[tuple[str, int]]] = {}
    first: dict[int, int] = {}
    found: dict[int, set[str]] = {}

    def close() -> None:
        for what in ("malloc", "free"):
            if what in pending:
                last[what] = api
        pending.clear()

    for place, (what, block, _) in enumerate(rows, 1):
        if what == "start":
            api, inside = api + 1, True
            continue
        if what == "end":
            inside = False
            close()
            continue
        api += not inside
        pending.append(what)
        if not inside:
            close()
        if what == "malloc":
            blocks[block], first[block] = [], place
        if block not in blocks:
            continue
        events = blocks[block]
        events.append((what, api))
        made = events[0][1]
        kinds = found.setdefault(first[block], set())
        others = [at for kind, at in events if kind == "access" and at != made]
        if what == "access" and len(others) == 1 and api == others[0] and api != made:
            kinds |= {EARLY} if made < last["free"] < api else set()
        if len(events) > 1 and events[-2][0] == "access":
            before = events[-2][1]
            if what == "access" and api - before > threshold:
                kinds.add(IDLE)
            if what == "free" and before != api and before < last["malloc"] < api:
                kinds.add(LATE)
    return {place: kinds for place, kinds in found.items() if kinds}
