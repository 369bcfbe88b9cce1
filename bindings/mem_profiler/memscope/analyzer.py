"""The analyses of `mem_parser.memscope`, where programs for msMemScope look for them."""

from mem_parser.memscope.analyzers import (
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
    "analyze",
    "check_inefficient",
    "check_leaks",
    "get_analyzer_config",
    "list_analyzers",
]
