"""What a capture and a list of processes look like on a terminal."""

from __future__ import annotations

from mem_cli.profiler.capture_view import result_lines
from mem_parser.sizes import short_size
from mem_profiler.capture.saving import Result


def test_sizes_are_in_powers_of_1024() -> None:
    assert [short_size(n) for n in (0, 1023, 1024, 1536, 2**30)] == [
        *("0 B", "1023 B", "1 KiB", "1.5 KiB", "1 GiB")
    ]


def test_a_packed_file_is_said_to_be_and_how_to_make_text_of_it() -> None:
    def said(*, packed: bool) -> list[str]:
        result = Result(
            path="p.7.1.heap", pid=7, exe="/bin/true", command="true", kind="capture",
            end="deadline", duration_s=1.0, samples=3, lost=0, cut=0, size_bytes=2048, notes=[],
            depth_limit=128, domain="host", packed=packed,
        )  # fmt: skip
        return list(result_lines(result))

    assert "  p.7.1.heap   2 KiB (gzip)   3 samples, 0 lost" in said(packed=True)
    assert any("convert p.7.1.heap -o plain.heap" in line for line in said(packed=True))
    assert not any("gzip" in line or "convert" in line for line in said(packed=False))
