"""Collect the events of device memory of this program, and analyse their dumps, under the names of
msMemScope.

    import mem_profiler.memscope as msmemscope

    msmemscope.config(call_stack="python", output_path="/data/out")
    msmemscope.start()
    train()
    msmemscope.stop()

    msmemscope.check_leaks("/data/memscope_dump_1.csv", mstx_info="test", start_index=0)

Python 3.9 is all that the collection needs in the program; the analyses need numpy, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mem_profiler.memscope import describe, frameworks, tracer, watcher
from mem_profiler.memscope.collection import config, start, step, stop
from mem_profiler.memscope.snapshots import TakeSnapshot, take_snapshot
from mem_profiler.memscope.tracer import RecordFunction

if TYPE_CHECKING:
    from mem_profiler.memscope.analyzer import (
        AnalysisConfig,
        BaseAnalyzer,
        InefficientAnalyzer,
        InefficientConfig,
        LeaksAnalyzer,
        LeaksConfig,
        analyze,
        check_inefficient,
        check_leaks,
        get_analyzer_config,
        list_analyzers,
    )

__all__ = [
    "AnalysisConfig",
    "BaseAnalyzer",
    "InefficientAnalyzer",
    "InefficientConfig",
    "LeaksAnalyzer",
    "LeaksConfig",
    "RecordFunction",
    "TakeSnapshot",
    "analyze",
    "check_inefficient",
    "check_leaks",
    "config",
    "describe",
    "frameworks",
    "get_analyzer_config",
    "list_analyzers",
    "start",
    "step",
    "stop",
    "take_snapshot",
    "tracer",
    "watcher",
]


def __getattr__(name: str) -> Any:
    """The analyses, imported when they are asked for."""
    if name in __all__:
        from mem_profiler.memscope import analyzer

        return getattr(analyzer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
