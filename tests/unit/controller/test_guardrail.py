"""The bound on the controller's own memory, and the account of what it used."""

from __future__ import annotations

import pytest

from mem_profiler.capture import guardrail


@pytest.mark.parametrize(
    ("value", "size"),
    [("", guardrail.DEFAULT_BYTES), ("512M", 512 << 20), ("4g", 4 << 30),
     ("much", guardrail.DEFAULT_BYTES), ("-1", guardrail.DEFAULT_BYTES)],
)  # fmt: skip
def test_the_variable_sets_the_bound(
    value: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(guardrail.VARIABLE, value)
    assert guardrail.bound_bytes() == size


def test_the_account_grows_with_what_is_used() -> None:
    before = guardrail.use()
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    after = guardrail.use()
    assert guardrail.rss_bytes() >= 64 << 20
    assert after.peak_rss_bytes >= max(before.peak_rss_bytes, 64 << 20)
    assert after.cpu_s >= before.cpu_s > 0
