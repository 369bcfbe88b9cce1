"""Which runtimes with heaps of their own are recognised, and by what."""

from __future__ import annotations

import pytest

from mem_parser.runtimes import runtime_of


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/sbin/php-fpm8.2", "PHP"),
        ("/usr/lib/apache2/modules/libphp8.2.so", "PHP"),
        ("/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so", "the JVM"),
        ("/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "Erlang"),
        ("/usr/lib/x86_64-linux-gnu/libluajit-5.1.so.2.1.0", "LuaJIT"),
        ("/usr/bin/luajit-2.1.0-beta3", "LuaJIT"),
        ("/usr/bin/node (deleted)", "V8"),
        ("[anon: Go: heap]", "Go"),
        ("/usr/share/dotnet/shared/libcoreclr.so", ".NET"),
    ],
)
def test_a_runtime_is_known_by_a_file_of_its_own(path: str, name: str) -> None:
    found = runtime_of(["/usr/lib/x86_64-linux-gnu/libc.so.6", path])
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "path",
    ["/usr/bin/phpstorm-helper", "/srv/nodes", "/usr/lib/libgcc_s.so.1", "/opt/mono-app", ""],
)
def test_a_name_that_only_resembles_one_is_no_runtime(path: str) -> None:
    assert runtime_of([path]) is None


def test_a_runtime_that_was_told_to_use_malloc_is_none() -> None:
    assert runtime_of(["/usr/bin/php8.2"], {"USE_ZEND_ALLOC": "0"}) is None
    assert runtime_of(["/usr/bin/php8.2"], {"USE_ZEND_ALLOC": "1"}) is not None
