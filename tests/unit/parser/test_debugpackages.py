"""What helps against missing names, by what a system's os-release says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.symbols.debugpackages import URLS_VARIABLE, by_server, how_to_get, read_os_release

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=jammy\nUBUNTU_CODENAME=jammy\n"
MINT = 'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=vera\nUBUNTU_CODENAME=jammy\n'
FEDORA = 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=40\n'
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'
ALPINE = "ID=alpine\nVERSION_ID=3.20.0\n"
DEBIAN_SOURCE = (
    " # archive debian-debug; /etc/apt/sources.list.d/debian-debug.list:"
    " deb http://deb.debian.org/debian-debug bookworm-debug main"
)
UBUNTU_SOURCE = " # archive ddebs; /etc/apt/sources.list.d/ddebs.list: deb http://ddebs"


def advice(tmp_path: Path, text: str, *packages: str) -> list[str]:
    path = tmp_path / "os-release"
    path.write_text(text)
    return how_to_get(packages, read_os_release([str(tmp_path / "missing"), str(path)]))


def test_debians_libc_is_in_the_main_archive_and_all_else_in_its_debug_archive(
    tmp_path: Path,
) -> None:
    assert advice(tmp_path, DEBIAN, "libc6") == ["apt install libc6-dbg"]
    assert advice(tmp_path, DEBIAN, "zlib1g", "libc6", "coreutils", "zlib1g") == [
        "apt install libc6-dbg",
        "apt install coreutils-dbgsym zlib1g-dbgsym " + DEBIAN_SOURCE,
    ]


@pytest.mark.parametrize("text", [UBUNTU, MINT])
def test_ubuntu_and_its_relatives_have_another_archive_and_a_key(text: str, tmp_path: Path) -> None:
    [line] = advice(tmp_path, text, "coreutils")
    assert line.startswith(f"apt install coreutils-dbgsym {UBUNTU_SOURCE}")
    assert "apt install ubuntu-dbgsym-keyring" in line


@pytest.mark.parametrize("text", [FEDORA, ROCKY])
def test_fedora_and_its_relatives_have_a_command(text: str, tmp_path: Path) -> None:
    assert advice(tmp_path, text, "glibc", "bash") == ["dnf debuginfo-install bash glibc"]


@pytest.mark.parametrize("text", [ALPINE, "", "nonsense\nID='debian\n", "\0\xff"])
def test_an_unknown_system_gets_no_advice_that_may_be_wrong(text: str, tmp_path: Path) -> None:
    assert advice(tmp_path, text, "musl") == []


def test_a_system_without_the_file_is_unknown(tmp_path: Path) -> None:
    assert read_os_release([str(tmp_path / "none"), str(tmp_path)]).family == ""


def test_no_package_needs_no_advice(tmp_path: Path) -> None:
    assert advice(tmp_path, DEBIAN) == []


def test_a_forged_codename_and_package_are_no_commands(tmp_path: Path) -> None:
    forged = 'ID=debian\nVERSION_CODENAME="x; rm -rf /"\n'
    [line] = advice(tmp_path, forged, "a; reboot")
    assert "rm -rf" not in line
    assert "CODENAME-debug" in line
    assert "'a; reboot-dbgsym'" in line


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    from mem_parser.symbols import debugpackages

    assert debugpackages._parsed(text).family in {"", "debian", "ubuntu", "fedora"}


def test_servers_are_named_by_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URLS_VARIABLE, raising=False)
    assert by_server() == "to download symbols, set DEBUGINFOD_URLS and pass --debuginfod"
    monkeypatch.setenv(URLS_VARIABLE, "https://x")
    assert by_server() == "pass --debuginfod to download symbols"
