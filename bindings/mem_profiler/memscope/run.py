"""A program under collection, with all processes that it starts: a tree of files for each.

Model: a run (`mem_profiler.capture.launch`) whose images have a log of events of every block of a
device, and a follower that makes dumps of it. No `.heap` file is written. A process that took no
memory of a wanted device leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Sequence

from mem_parser.errors import MemError, UsageProblem
from mem_parser.memscope.form import Folders, stamp_of
from mem_parser.memscope.launchrows import launches_wanted
from mem_parser.memscope.settings import DEPTH, Settings
from mem_parser.output_path import make_folder, open_folder
from mem_profiler.capture import device_choice, gate, launch
from mem_profiler.capture.launch import Image, Outcome
from mem_profiler.capture.output import ExactFile, Where
from mem_profiler.events.collector import Limits
from mem_profiler.events.logs import Logging
from mem_profiler.memscope import atstart, commanded, tree
from mem_profiler.memscope.follower import Collected, Follower, Task
from mem_profiler.memscope.recovery import OUTPUT_LINK
from mem_profiler.process import procfs

HOST_OFF_BYTES = 1 << 30
"""The host's rate where nobody wants its blocks: next to none is sampled."""
BACKEND = "hal"


def depth_of(settings: Settings) -> int:
    """Return how many frames of a stack are kept: those of a refusal are shown always."""
    return max(settings.c_depth, settings.python_depth, DEPTH)


def options_of(settings: Settings, limits: Limits | None = None) -> launch.Options:
    """Return how a program is run for a collection: every block of devices, and of the host where
    that is wanted.
    """
    return launch.Options(
        rate_bytes=1 if settings.host else HOST_OFF_BYTES,
        prefix=os.path.join(settings.output, "memscope"),
        children=True,
        keep_pymalloc=True,
        device=device_choice.parse(BACKEND),
        depth_limit=depth_of(settings),
        logging=Logging(
            "",
            limits=limits or Limits(),
            is_followed=True,
            launches=launches_wanted(settings),
        ),
    )


class MemscopeRun(launch.Run):
    """One run. `collected` has what became of each process, once `finish` is over."""

    def __init__(
        self, arguments: Sequence[str], settings: Settings, options: launch.Options
    ) -> None:
        """Start the program. Raises MemError before anything starts."""
        self.settings = settings
        self.stamp = stamp_of()
        self.collected: list[Collected] = []
        self._followers: dict[int, Follower] = {}
        self._logs: dict[int, int] = {}
        try:
            make_folder(os.path.abspath(settings.output))
        except OSError as error:
            raise UsageProblem(
                f"--output {settings.output}: cannot be made: {error.strerror}"
            ) from None
        options = dataclasses.replace(
            options,
            variables=options.variables
            | atstart.variables()
            | commanded.variables(settings, self.stamp),
        )
        super().__init__(arguments, options)
        with contextlib.suppress(OSError):  # without it, recover needs the name of the folder
            (self.base.path / OUTPUT_LINK).symlink_to(os.path.abspath(settings.output))

    def _places(self, image: Image) -> Folders:
        return tree.places_of(self.settings, image.pid, self.stamp)

    def where(self, image: Image) -> Where:
        """The log of an image: in the events folder of its process, under a name of its own."""
        places = self._places(image)
        try:
            folder = tree.events_folder(places)
            tree.write_settings(folder, self.settings)
        except OSError as error:
            raise MemError(f"cannot write in {places.run}: {error.strerror}") from None
        number = self._logs[image.pid] = self._logs.get(image.pid, 0) + 1
        return ExactFile(os.path.join(folder, f"log{number}.heap"))

    def _begin_log(self, image: Image, logging: Logging) -> None:
        before = self._logs.get(image.pid, 0)
        super()._begin_log(image, logging)
        if self._logs.get(image.pid, 0) == before:
            return
        for earlier in self.images.values():
            if earlier.process == image.process and earlier is not image:
                self._end_follower(earlier)
        places = self._places(image)
        log = self._logs[image.pid]
        if log > 1:
            places = places._replace(stamp=stamp_of())
        stem = os.path.join(places.run, tree.EVENTS_FOLDER, f"log{log}")
        offset_ns = procfs.clock_offset_ns(image.recording.pid) if image.recording.pid else 0
        task = Task(self.settings, places, stem, image.pid, image.segment.path, offset_ns)
        self._followers[id(image)] = Follower(task)

    def _end_follower(self, image: Image) -> None:
        follower = self._followers.pop(id(image), None)
        if follower is not None:
            self.collected.append(follower.finish())

    def write_image(self, outcome: Outcome, image: Image, end: str) -> None:  # noqa: ARG002 - as of a run
        """End the log of an image, and its dumps. Raises MemError."""
        end, notes = self.end_capture(image, end)
        log = image.recording.end_log(end)
        gate.mark_written(image.segment, image.segment.control().number("capture_number"))
        follower = self._followers.pop(id(image), None)
        if follower is None:
            return
        done = follower.finish()
        warnings = [*done.warnings, *notes]
        problem = done.problem or (log.problem if log is not None else "")
        self.collected.append(dataclasses.replace(done, warnings=warnings, problem=problem))

    def finish(self, status: int) -> Outcome:
        """Write the files and clean up."""
        try:
            return super().finish(status)
        finally:
            for image in self.images.values():
                self._end_follower(image)
            self._remove_empty()

    def _remove_empty(self) -> None:
        """Remove the folders of processes that have no dump."""
        has_dump = {done.pid for done in self.collected if done.paths or done.problem}
        for image in self.images.values():
            if image.pid not in has_dump:
                with contextlib.suppress(OSError, UsageProblem):
                    if not os.path.isfile(self._places(image).config):
                        remove_events(self._places(image).run)


def remove_events(run: str) -> None:
    """Remove the folder of a process, which has its events alone. Raises UsageProblem where others
    replaced it by a link, OSError.
    """
    with open_folder(run) as opened:
        shutil.rmtree(tree.EVENTS_FOLDER, dir_fd=opened)
    os.rmdir(run)
