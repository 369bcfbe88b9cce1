"""The pages of dumps of device memory without a browser: closed, hostile names, a bounded size."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from html_pages import Page, assert_closed, assert_one_script
from mem_parser.escape import one_line
from mem_parser.memscope.compare import Aligned, Comparison, DeviceComparison, Module, Pair, Peak
from mem_parser.memscope.ownersums import PoolOwners, owners_of
from mem_parser.web import scopeclasses, scopecompare
from mem_parser.web.page import SIZE_LIMIT
from memscope_dumps import Story
from web_profiles import blocks_of

HOSTILE = "</script><script>alert(1)</script><img/src=x onerror=alert(1)>&lt;\u2028'\"\u202e"


def pools_of(folder: Path, word: str, count: int = 3) -> list[PoolOwners]:
    story = Story(device=word)
    for k in range(count):
        story.malloc(0x1000 * (k + 1), 64, "PTA", k + 1, owner=f"PTA@{word}@{word} {k}")
        story.add("SYSTEM", "STEP", f"{word} {k}", device="N/A")
    return owners_of(story.read(folder))


def classes_page(folder: Path, word: str) -> str:
    return scopeclasses.render([(word, pools_of(folder, word)), (word, [])])


def comparison(word: str, operators: list[Aligned]) -> Comparison:
    device = DeviceComparison(
        word, operators, [Module(word, word, Pair(1, None), Pair(None, 2))],
        [Peak(word, Pair(1, 2))],
    )  # fmt: skip
    return Comparison(word, word, "op", [device, device], (word, word))


def compare_page(_: Path, word: str) -> str:
    return scopecompare.render(comparison(word, [Aligned("OP_LAUNCH", word, Pair(1, None))]))


@pytest.fixture(params=[classes_page, compare_page])
def render(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_page_is_closed_and_has_one_script(render: Any, tmp_path: Path) -> None:
    text = render(tmp_path, "plain")
    assert_closed(Page(text))
    assert_one_script(text)


def test_hostile_names_stay_text(render: Any, tmp_path: Path) -> None:
    # A comma would be another key of Attr.
    text, plain = render(tmp_path, HOSTILE), render(tmp_path, "plain")
    page = Page(text)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Page(plain).tags]
    assert_closed(page)
    assert "<img" not in text
    for script in page.scripts[:-1]:
        assert "<" not in script
        json.loads(script)
    assert one_line(HOSTILE) in set(texts_of(list(blocks_of(text).values())))


def texts_of(data: Any) -> Iterator[str]:
    """All texts of a block."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list | tuple):
        for value in data.values() if isinstance(data, dict) else data:
            yield from texts_of(value)


def test_columns_of_owners_are_what_the_pool_holds(tmp_path: Path) -> None:
    [pool] = pools_of(tmp_path, "w", 5)
    [(head, columns)] = blocks_of(scopeclasses.render([("x.csv", [pool])]))["pools"]
    assert head["owners"] == [[f"PTA@w@w {k}", 0, "", 1] for k in range(5)]
    for name, held in (("end", pool.ends), ("peak", pool.peaks), ("top", pool.top)):
        for kind, table in (("bytes", held.bytes), ("blocks", held.blocks)):
            values = columns[f"{name}.{kind}"].astype(np.int64)
            steps = np.where(values % 2, -(values + 1) // 2, values // 2)
            assert steps.reshape(5, -1).cumsum(axis=1).T.tolist() == table.tolist()


def test_a_page_of_very_many_owners_and_steps_stays_below_the_limit(tmp_path: Path) -> None:
    story, random_of = Story(), random.Random(1)
    for k in range(1500):
        owner = f"PTA@weight@{random_of.randbytes(60).hex()}"
        story.malloc(0x1000 * (k + 1), random_of.randrange(1 << 40), "PTA", k + 1, owner=owner)
        if k > 400:
            story.free(0x1000 * (k - 400), 1, "PTA", k)
        story.add("SYSTEM", "STEP", str(k), device="N/A")
    pools = owners_of(story.read(tmp_path))
    text = scopeclasses.render([("x.csv", pools)], 600_000)
    assert len(text.encode()) < 600_000
    [(head, columns)] = blocks_of(text)["pools"]
    assert head["owners"][-1][0] == ""
    assert sum(one[-1] for one in head["owners"]) == 1500
    assert sum(columns["top.bytes"].tolist()) == 2 * pools[0].peak_bytes


def many_operators(count: int, names: int, name_chars: int) -> list[Aligned]:
    random_of = random.Random(1)
    words = [f"{random_of.randbytes(name_chars // 2).hex()}" for _ in range(names)]
    found = []
    for k in range(count):
        base = random_of.randrange(-(1 << 30), 1 << 30)
        pair = (Pair(base, base), Pair(base, base + k), Pair(base, None), Pair(None, base))[k % 4]
        found.append(Aligned("OP_LAUNCH", random_of.choice(words), pair))
    return found


def test_operators_are_on_the_page_with_their_sides(tmp_path: Path) -> None:
    operators = many_operators(2000, 30, 10)
    (head, columns), _ = blocks_of(scopecompare.render(comparison("x", operators)))["operators"]
    assert head["left_out"] == {"rows": 0, "differing": 0}
    sides = columns["side"].tolist()
    values = [columns[key].astype(np.int64) for key in ("base", "compare")]
    base, compare = (np.where(v % 2, -(v + 1) // 2, v // 2).tolist() for v in values)
    names = [head["names"][k] for k in columns["name"].tolist()]
    found = [
        (name, None if side == 2 else b, None if side == 1 else c)
        for name, side, b, c in zip(names, sides, base, compare, strict=True)
    ]
    assert found == [(one.name, *one.bytes) for one in operators]
    assert columns["step"].astype(int).cumsum().tolist() == list(range(2000))


@pytest.mark.parametrize(("names", "chars"), [(50, 20), (1000, 900)])
def test_of_too_many_operators_those_that_change_most_stay(names: int, chars: int) -> None:
    operators = many_operators(8000, names, chars)
    text = scopecompare.render(comparison("x", operators), 150_000)
    assert len(text.encode()) < 150_000
    (head, columns), _ = blocks_of(text)["operators"]
    places = columns["step"].astype(int).cumsum().tolist()
    assert head["left_out"]["rows"] == 8000 - len(places) > 0
    kept, changes = set(places), [abs(one.bytes.change) for one in operators]
    least = min(changes[k] for k in kept)
    gone = [k for k in range(8000) if k not in kept]
    assert max(changes[k] for k in gone) <= least
    differing = [k for k in gone if changes[k] or None in operators[k].bytes]
    assert head["left_out"]["differing"] == len(differing)


@pytest.mark.timeout(120)
def test_a_hundred_thousand_operators_a_side_are_all_on_the_page() -> None:
    operators = many_operators(150_000, 300, 30)
    device = DeviceComparison("0", operators, [], [])
    text = scopecompare.render(Comparison("a", "b", "op", [device]))
    assert len(text.encode()) < SIZE_LIMIT
    [(head, columns)] = blocks_of(text)["operators"]
    assert (len(columns["name"]), head["left_out"]["rows"]) == (150_000, 0)
