"""Memory limits in pytest: bytes held, leaked and allocated by each test, with native stacks.

    @pytest.mark.mem_limit("24 MB")
    def test_parse(): ...

    pytest --mem                     runs pytest under the sampler, and checks every mark

Model: the sampler lies dormant in the test process, small Python objects coming from malloc too.
For a test with a limit, a process beside it (`mem_profiler.inprocess`) captures while its body
runs, and the capture is held against the limit as `mem_parser budget` would; nothing of ours
allocates meanwhile.
Tests without a limit run as they always do. Works in the workers of pytest-xdist.
"""

from mem_cli.pytest_plugin.hooks import (
    pytest_addoption,
    pytest_configure,
    pytest_load_initial_conftests,
)

__all__ = ["pytest_addoption", "pytest_configure", "pytest_load_initial_conftests"]
