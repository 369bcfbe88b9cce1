"""Operators, accesses and watched blocks of a real PyTorch."""

import csv
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from mem_parser.memscope.settings import Settings, changed
from mem_parser.memscope.siderows import SideFile, SideRow
from mem_profiler.memscope import operators, watcher
from mem_profiler.memscope.operators import Call, Listener, Operators, check_version
from mem_profiler.memscope.oprows import OperatorRows
from mem_profiler.memscope.siderows import SideRows
from mem_profiler.memscope.watchfiles import WatchFiles
from mem_profiler.memscope.watching import Watching, crc64
from sampler_run import silent

torch: Any
pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    """Where tests are only collected it takes seconds, and makes each later fork dear."""
    global torch  # noqa: PLW0603 - an import
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install .[torch]")


def side_rows(path: Path | str) -> list[SideRow]:
    file = SideFile(str(path))
    rows = file.take()
    file.close()
    assert file.wrong_lines == 0
    return rows


class Recorded:
    """Operators that run in a block, with their accesses."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._rows = SideRows(str(folder))
        self._operators = Operators([OperatorRows(self._rows, access=True, **options)])

    def __enter__(self) -> Self:
        self._operators.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._operators.stop()

    def rows(self) -> list[SideRow]:
        return side_rows(self._rows.path)

    def names(self, event_type: str = "ATEN_END") -> list[str]:
        return [row.name for row in self.rows() if row.type == event_type]

    def accesses(self) -> list[tuple[str, str, int | None]]:
        return [(r.name, r.type, r.address) for r in self.rows() if r.event == "ACCESS"]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_what_an_operator_reads_and_writes_is_what_its_schema_says(recorded: Recorded) -> None:
    a, b, out = torch.ones(2, 3), torch.ones(2, 3), torch.empty(2, 3)
    at = {name: t.data_ptr() for name, t in (("a", a), ("b", b), ("out", out))}
    with recorded:
        total = a + b
        a.add_(b)
        torch.add(a, b, out=out)
        view = a[1]
        torch.cat([a, b])
        parts = torch.std_mean(a)
    found = recorded.accesses()
    add = [row[1:] for row in found if row[0] == "aten.add.Tensor"]
    assert add == [("READ", at["a"]), ("READ", at["b"]), ("WRITE", total.data_ptr())]
    add_ = [row[1:] for row in found if row[0] == "aten.add_.Tensor"]
    assert add_ == [("WRITE", at["a"]), ("READ", at["b"])]
    add_out = [row[1:] for row in found if row[0] == "aten.add.out"]
    assert add_out == [("READ", at["a"]), ("READ", at["b"]), ("WRITE", at["out"])]
    # A view has the block of what it shows, not an address within it.
    assert view.data_ptr() != at["a"]
    assert [row[1:] for row in found if row[0] == "aten.select.int"] == [("UNKNOWN", at["a"])]
    cat = [row[1] for row in found if row[0] == "aten.cat.default"]
    assert cat == ["READ", "READ", "WRITE"]
    assert [row[1:] for row in found if row[0] == "aten.std_mean.correction"] == [
        ("READ", at["a"]), ("WRITE", parts[0].data_ptr()), ("WRITE", parts[1].data_ptr()),
    ]  # fmt: skip


def test_an_access_says_type_shape_and_size_of_the_block(recorded: Recorded) -> None:
    a = torch.ones(4, 5, dtype=torch.float64)
    with recorded:
        a[1:3].sum()
    read = next(r for r in recorded.rows() if r.name == "aten.sum.default" and r.event == "ACCESS")
    assert read.device == "cpu"
    assert read.attributes == {"size": 160, "type": "PTA", "dtype": "float64", "shape": "[2, 5]"}


def test_begin_accesses_and_end_are_in_this_order(recorded: Recorded) -> None:
    with recorded:
        torch.ones(3)
    rows = recorded.rows()
    assert [row.type for row in rows] == ["ATEN_START", "WRITE", "ATEN_END"]
    assert [row.time_ns for row in rows] == sorted(row.time_ns for row in rows)
    assert {row.tid for row in rows} == {threading.get_native_id()}


def test_backward_and_mixed_precision_and_inference_are_seen(recorded: Recorded) -> None:
    model = torch.nn.Linear(3, 4)
    with recorded:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(torch.ones(2, 3))
        out.float().sum().backward()
        with torch.inference_mode():
            model(torch.ones(1, 3))
    names = recorded.names()
    assert names.count("aten._to_copy.default") >= 3
    assert "aten.mm.default" in names
    assert "aten.linear.default" in names
    assert model.weight.grad is not None


def test_begin_and_end_of_an_operator_are_of_one_device(recorded: Recorded) -> None:
    a = torch.ones(2)
    with recorded:
        torch.ones(3)
        a.add(1)
    rows = [(r.type, r.device) for r in recorded.rows() if r.event == "OP_LAUNCH"]
    # A dump of another device has a row of no device, and would never see the end.
    assert rows == [
        ("ATEN_START", None), ("ATEN_END", None), ("ATEN_START", "cpu"), ("ATEN_END", "cpu"),
    ]  # fmt: skip


def test_an_operator_that_raises_has_an_end_and_the_programs_error(recorded: Recorded) -> None:
    with recorded, pytest.raises(RuntimeError, match="must match"):
        torch.ones(3) + torch.ones(4)
    last = recorded.rows()[-1]
    assert (last.type, last.name) == ("ATEN_END", "aten.add.Tensor")
    assert last.attributes == {"failed": "RuntimeError"}
    assert torch.ones(1).add(1).item() == 2


def test_threads_that_begin_later_are_seen(recorded: Recorded) -> None:
    tids = []

    def work() -> None:
        tids.append(threading.get_native_id())
        torch.ones(3).mul(2)

    with recorded:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        assert not hasattr(thread.run, "__closure__") or "run" not in thread.__dict__
    mine = [row.name for row in recorded.rows() if row.tid == tids[0]]
    assert "aten.mul.Tensor" in mine
    assert threading.Thread.start.__module__ == "threading"


def test_no_tensor_is_kept(recorded: Recorded) -> None:
    with recorded:
        a = torch.ones(100)
        b = a * 2
        gone = [weakref.ref(t) for t in (a, b)]
        del a, b
        assert [ref() for ref in gone] == [None, None]


def test_tensors_that_handle_operators_themselves_work(recorded: Recorded) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._pytree import tree_map

    class Wrapped(torch.Tensor):  # type: ignore[misc]
        @staticmethod
        def __new__(cls: type, inner: Any) -> Any:
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        @classmethod
        def __torch_dispatch__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            inner = tree_map(lambda t: t.inner if isinstance(t, Wrapped) else t, args)
            out = func(*inner, **(kwargs or {}))
            return tree_map(lambda t: Wrapped(t) if isinstance(t, torch.Tensor) else t, out)

    with recorded:
        wrapped = Wrapped(torch.ones(3)).add(1)
        with FakeTensorMode():
            fake = torch.ones(3).mul(2)
        meta = torch.ones(3, device="meta").mul(2)
        sparse = torch.eye(3).to_sparse().mul(2)
    assert wrapped.inner.tolist() == [2, 2, 2]
    assert fake.shape == meta.shape == (3,)
    assert sparse.to_dense()[0, 0] == 2
    assert recorded.names().count("aten.add.Tensor") == 1
    # It is the one inside of the wrapper, whose tensors have memory.
    adds = [row[1:] for row in recorded.accesses() if row[0] == "aten.add.Tensor"]
    assert adds[-1] == ("WRITE", wrapped.inner.data_ptr())


def test_compiled_functions_and_checkpoints_and_conditions_give_their_results(
    recorded: Recorded,
) -> None:
    from torch.utils.checkpoint import checkpoint

    weight = torch.ones(3, requires_grad=True)
    compiled = torch.compile(lambda x: (x * x + 1).sum(), backend="eager")
    with recorded:
        assert compiled(torch.ones(3)).item() == 6
        checkpoint(lambda x: (x * x).sin().sum(), weight, use_reentrant=False).backward()
        assert torch.func.grad(lambda x: (x * x).sum())(torch.ones(2)).tolist() == [2, 2]
        assert torch.func.vmap(lambda x: (x * x).sum())(torch.ones(3, 2)).tolist() == [2, 2, 2]
    assert weight.grad is not None


def test_a_stack_is_that_of_the_program(tmp_path: Path) -> None:
    with Recorded(tmp_path, stack_depth=2) as found:
        torch.ones(3)
    first = found.rows()[0].stack or ""
    assert first.splitlines()[0].startswith(__file__)
    assert first.splitlines()[0].endswith("test_a_stack_is_that_of_the_program")
    assert len(first.splitlines()) == 2


class Broken(Listener):
    def after(self, call: Call) -> None:
        raise KeyError(call.name)


def test_an_error_of_ours_is_one_line_and_the_program_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    watched = Operators([Broken()])
    watched.start()
    try:
        assert torch.ones(2).add(1).tolist() == [2, 2]
    finally:
        watched.stop()
    assert capfd.readouterr().err == (
        "mem_profiler: operators are not recorded any more: KeyError: 'aten.ones.default'\n"
    )


def test_an_old_pytorch_is_refused_in_one_line() -> None:
    for good in ("2.3.1", "2.13.0+cpu", "3.0.0a0"):
        check_version(good)
    for old in ("2.3.0", "1.13.1+cu117", "2.1.0a0+git"):
        with pytest.raises(
            RuntimeError, match=r"^operators need PyTorch 2\.3\.1 or later, this is"
        ):
            check_version(old)
    assert operators.LEAST == (2, 3, 1)


def test_a_collection_begins_when_pytorch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from mem_profiler.memscope.pytorch import TorchCollection, Wanted\n"
        "from mem_profiler.memscope.siderows import SideRows\n"
        "one = TorchCollection(SideRows(sys.argv[1]), Wanted(owners=True))\n"
        "one.start()\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "assert type(torch.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "torch.ones(3)\n"
        "one.stop()\n"
        "torch.zeros(3)\n"
    )
    silent([sys.executable, "-c", code, tmp_path])
    [path] = tmp_path.iterdir()
    names = {row.name for row in side_rows(path) if row.event == "OP_LAUNCH"}
    assert names == {"aten.ones.default"}


# -- watch -----------------------------------------------------------------------------------


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Any]:
    """Begin to watch with an option; the watching is returned."""
    begun: list[Operators] = []

    def begin(option: str | None = None) -> Watching:
        wanted = changed(Settings(), {"watch": option}).watch if option else None
        watching = Watching(WatchFiles(str(tmp_path)), wanted)
        watcher.use(watching)
        begun.append(Operators([watching]))
        begun[-1].start()
        return watching

    yield begin
    watcher.use(None)
    for one in begun:
        one.stop()


def table(folder: Path, part: str) -> list[list[str]]:
    [path] = (folder / "device_cpu" / "watch_dump").glob(f"watch_dump_{part}_*.csv")
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_sums_of_a_watched_tensor_are_those_of_its_bytes(watch: Any, tmp_path: Path) -> None:
    tensor = torch.arange(6, dtype=torch.float32)
    plain = crc64(tensor.numpy().tobytes())
    watch()
    watcher.watch(tensor, name="mine")
    tensor.add_(1)
    header, *rows = table(tmp_path, "data_check_sum")
    tid = threading.get_native_id()
    assert header == ["Tensor info", "Check data sum"]
    assert rows == [
        [f"cpu_{tid}_aten.add_.Tensor_1-mine_0_before", f"0x{plain:016x}"],
        [f"cpu_{tid}_aten.add_.Tensor_1-mine_0_after", f"0x{crc64(tensor.numpy().tobytes()):016x}"],
    ]


def test_it_says_which_operator_changed_a_block(watch: Any, tmp_path: Path) -> None:
    tensor = torch.zeros(4)
    watching = watch()
    watcher.watch(tensor, name="mine")
    torch.ones(2)
    tensor[1:].mul_(1)
    tensor[1:].add_(5)
    tensor.numpy()[0] = 7
    torch.ones(2)
    [line] = watching.summary()
    assert line == (
        "mine output 0 changed 2 times: aten.add_.Tensor (call 1); "
        "no operator, before aten.ones.default (call 2)"
    )
    rows = table(tmp_path, "changes")
    assert [row[:5] for row in rows[1:]] == [
        ["mine", "0", "aten.add_.Tensor", "1", "after"],
        ["mine", "0", "aten.ones.default", "2", "before"],
    ]


def test_outputs_are_watched_from_the_start_to_the_end(watch: Any, tmp_path: Path) -> None:
    a = torch.randn(6)
    watch("aten.topk:out1,aten.neg,full-content")
    _, places = torch.topk(a, 2)
    before = places.numpy().tobytes()
    places.add_(1)
    torch.neg(a)
    torch.ones(1)
    folder = tmp_path / "device_cpu" / "watch_dump"
    tid = threading.get_native_id()
    end = "-aten.topk_1_"
    files = {f"cpu_{tid}_{op}_1{end}{when}.bin" for op in ("aten.add_.Tensor", "aten.neg.default")
             for when in ("before", "after")}  # fmt: skip
    # The call of numpy above is an operator too.
    found = {path.name for path in folder.glob("*.bin")}
    assert {name for name in found if "detach" not in name} == files
    content = (folder / f"cpu_{tid}_aten.add_.Tensor_1{end}before.bin").read_bytes()
    assert content == before
    after = (folder / f"cpu_{tid}_aten.neg.default_1{end}after.bin").read_bytes()
    assert after == places.numpy().tobytes()


def test_a_number_of_dumps_is_kept_and_addresses_and_removal_work(
    watch: Any, tmp_path: Path
) -> None:
    tensor, other = torch.zeros(4), torch.zeros(4)
    watch()
    watcher.watch(tensor.data_ptr(), length=16, name="range", dump_nums=2)
    watcher.watch(other, name="other")
    for _ in range(4):
        torch.ones(1)
    watcher.remove(other)
    torch.ones(1)
    names = [row[0] for row in table(tmp_path, "data_check_sum")[1:]]
    assert sum("-range_0_" in name for name in names) == 4
    assert sum("-other_0_" in name for name in names) == 8
    watcher.remove(tensor.data_ptr(), length=16)
    with pytest.raises(ValueError, match="is not watched"):
        watcher.remove(other)


def test_a_watched_tensor_is_not_kept_and_lost_addresses_do_no_harm(watch: Any) -> None:
    watch()
    tensor = torch.zeros(4)
    gone = weakref.ref(tensor)
    watcher.watch(tensor, name="mine")
    watcher.watch(8, length=16, name="no memory")
    del tensor
    gc.collect()
    assert gone() is None
    assert torch.ones(2).add(1).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("block", "options", "kind"),
    [
        ("text", {"name": "a"}, TypeError),
        (5, {"name": "a"}, ValueError),
        (5, {"name": "", "length": 3}, ValueError),
        (-5, {"name": "a", "length": 3}, ValueError),
        (5, {"name": "a", "length": 3, "dump_nums": -2}, ValueError),
    ],
)
def test_what_cannot_be_watched_is_refused_in_one_line(
    block: object, options: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as refused:
        watcher.watch(block, **options)
    assert "\n" not in str(refused.value)
