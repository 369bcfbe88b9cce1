"""The commands that a document tells its reader to type, and a shell that types them."""

import os
import re
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

FENCE = re.compile(r" *```(\w*) *$")
SHELLS = {"sh", "bash", "console", "shell"}
WAIT_S = 120.0


@dataclass(frozen=True)
class Block:
    """A block of code: its first line's number, its language ("" without one), its text."""

    line: int
    language: str
    text: str
    is_indented: bool

    @property
    def is_shell(self) -> bool:
        """Whether it is typed: indented, of a shell, or with prompts."""
        prompt = re.search(r"^\$ ", self.text, re.MULTILINE) is not None
        return self.is_indented or self.language in SHELLS or (not self.language and prompt)


@dataclass(frozen=True)
class Command:
    """What is typed, and the lines that the page shows below it."""

    line: int
    text: str
    shown: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code that the page names in what it shows, else 0."""
        found = re.search(r"exit code (\d+)$", "\n".join(self.shown))
        return int(found[1]) if found else 0


def blocks(markdown: str) -> Iterator[Block]:
    """Yield the blocks of code of a document, in their order."""
    lines = markdown.splitlines()
    at = 0
    while at < len(lines):
        begin = at
        at += 1
        if fence := FENCE.match(lines[begin]):
            while not FENCE.match(lines[at]):
                at += 1
            text = "\n".join(lines[begin + 1 : at])
            yield Block(begin + 2, fence[1], textwrap.dedent(text), is_indented=False)
            at += 1
        elif lines[begin].startswith("    ") and not (begin and lines[begin - 1].strip()):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at]):
                at += 1
            text = "\n".join(lines[begin:at]).rstrip()
            yield Block(begin + 1, "", textwrap.dedent(text), is_indented=True)


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a block: all lines, those behind prompts, or the steps of a recipe."""
    if block.language == "yaml":
        for step in _steps(yaml.safe_load(block.text)):
            yield Command(block.line, step)
        return
    if not block.is_shell:
        return
    text = block.text.replace("\\\n", "\\\0")
    lines = list(enumerate(text.split("\n"), block.line))
    if not any(line.startswith("$ ") for _, line in lines):
        for number, line in lines:
            if line.strip():
                yield Command(number, line.replace("\0", "\n"))
        return
    typed = [k for k, (_, line) in enumerate(lines) if line.startswith("$ ")]
    for k, after in zip(typed, [*typed[1:], len(lines)], strict=True):
        shown = tuple(line for _, line in lines[k + 1 : after] if line.strip())
        yield Command(lines[k][0], lines[k][1][2:].replace("\0", "\n"), shown)


def _steps(recipe: object) -> Iterator[str]:
    """The lines that a recipe of GitHub or GitLab gives to the shell."""
    if isinstance(recipe, list):
        yield from (step["run"] for step in recipe)
    elif isinstance(recipe, dict):
        yield from recipe.get("script", ())


def shape(line: str) -> str:
    """A line of output without its numbers, units, padding, and errors, which large ones lack."""
    text = re.sub(r"\d[\d,.]*", "N", line)
    text = re.sub(r"\bN ?(?:[KMG]iB|B)\b", "N bytes", text)
    text = re.sub(r" ± N bytes(?: \(N %\))?", "", text)
    return re.sub(r"\s+", " ", text).strip()


def unlike(shown: tuple[str, ...], output: str) -> list[str]:
    """The shown lines whose shape no line of the output has; an ellipsis stands for any lines."""
    shapes = {shape(line) for line in output.splitlines()}
    return [
        line for line in shown if line.strip() not in {"...", "…"} and shape(line) not in shapes
    ]


class Shell:
    """A shell in a folder, with an environment; `cd` and variables of one command hold for the
    next. Use as a context manager: it ends what still runs.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)
        self._kept: list[str] = []
        self._running: list[subprocess.Popen[str]] = []

    def type(self, text: str) -> tuple[int, str]:
        """Run a command to its end: its exit code, and all that it prints."""
        done = subprocess.run(
            ["bash", "-c", "\n".join([*self._kept, text])], cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=WAIT_S,
        )  # fmt: skip
        if re.match(r"cd |export ", text):
            self._kept.append(text)
        return done.returncode, done.stdout

    def start(self, text: str, ready: str) -> str:
        """Start a command that runs until it is stopped; what it printed when it was ready."""
        out = self.folder / f"running-{len(self._running)}"
        with out.open("w") as file:
            child = subprocess.Popen(
                ["bash", "-c", "\n".join([*self._kept, f"exec {text}"])], cwd=self.folder,
                env=self.environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self._running.append(child)
        give_up = time.monotonic() + WAIT_S
        while not re.search(ready, said := out.read_text()):
            assert child.poll() is None, f"{text} ended with {child.returncode}: {said}"
            assert time.monotonic() < give_up, f"{text} is not ready: {said}"
            time.sleep(0.02)
        return said

    def stop(self) -> list[int]:
        """Press Ctrl-C in all that runs; their exit codes."""
        for child in self._running:
            child.send_signal(signal.SIGINT)
        codes = [child.wait(WAIT_S) for child in self._running]
        self._running = []
        return codes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        for child in self._running:
            child.kill()
            child.wait(WAIT_S)


def program(path: Path, text: str) -> Path:
    """Write a script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def search_path(*folders: Path) -> str:
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])
