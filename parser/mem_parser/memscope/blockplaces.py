"""Numbers of places, tracks and files, used in columns of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mem_parser.memscope.domains import FIRST_DEVICE, Place, place_of
from mem_parser.memscope.form import HAL
from mem_parser.memscope.liveaddresses import LiveAddresses
from mem_parser.memscope.tracks import Batch, Track

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps
    from mem_parser.memscope.logtail import LogFile
    from mem_parser.memscope.settings import Settings

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class BlockPlaces:
    """Where blocks are: in a place, which their domain says, and in a track of it."""

    def __init__(self, settings: Settings, dumps: Dumps, pid: int, live: LiveAddresses) -> None:
        self.places: list[Place] = []
        self.tracks: list[Track] = []
        self._settings, self._dumps, self._pid, self._live = settings, dumps, pid, live
        self._place_of: dict[tuple[str, str | None], int] = {}
        self._track_of: dict[tuple[str, str], int] = {}
        self._files: dict[int, LogFile] = {}
        self._next_file = 0

    def new_settings(self, settings: Settings) -> None:
        """Go on with other settings."""
        self._settings = settings
        for track in self.tracks:
            track.is_wanted = self._wants(track.device)

    def _wants(self, device: str) -> bool:
        return self._settings.blocks and self._settings.wants(device)

    # -- files -----------------------------------------------------------------------------------

    def of_batch(self, batch: Batch, used_files: set[int]) -> tuple[IntArray, IntArray]:
        """Return the place of each event, and the number of its file. Of the files before, those
        that ``used_files`` has stay known.
        """
        place = np.zeros(len(batch.events), dtype=np.int64)
        number = np.zeros(len(batch.events), dtype=np.int64)
        last = self._next_file - 1
        self._files = {k: f for k, f in self._files.items() if k in used_files or k == last}
        for k, file in enumerate(batch.files):
            assert file.facts is not None
            of_domain = np.array([self.place(name) for name in file.facts.domains])
            mine = batch.file == k
            place[mine] = of_domain[batch.events.domain[mine]]
            number[mine] = self._file_number(file)
        return place, number

    def _file_number(self, file: LogFile) -> int:
        for number, known in self._files.items():
            if known is file:
                return number
        self._files[self._next_file] = file
        self._next_file += 1
        return self._next_file - 1

    def file(self, number: int) -> LogFile:
        """Return a file of the log."""
        return self._files[number]

    @property
    def many_files(self) -> bool:
        """Whether more than one file is known."""
        return len(self._files) > 1

    # -- places and tracks -----------------------------------------------------------------------

    def place(self, domain: str) -> int:
        """Return the number of a domain's place."""
        one = place_of(domain)
        found = self._place_of.get((one.type, one.device))
        if found is None:
            found = self._place_of[one.type, one.device] = len(self.places)
            self.places.append(one)
            self._live.of_place.append({})
        return found

    def track(self, place: Place, device: str) -> int:
        """Return the number of the track of a place on a device."""
        found = self._track_of.get((place.type, device))
        if found is None:
            found = self._track_of[place.type, device] = len(self.tracks)
            track = Track(place, device, self._pid, self._dumps)
            track.is_wanted = self._wants(device)
            self.tracks.append(track)
        return found

    def tracks_of(self, present: IntArray) -> tuple[IntArray, BoolArray]:
        """Return the track of each of these places; and which have none, since each block is asked
        for its device (`device_of`).
        """
        tracks = np.zeros(len(self.places), dtype=np.int64)
        unsure = np.zeros(len(self.places), dtype=np.bool_)
        devices = [one.device for one in self.places if one.type == HAL]
        only = devices[0] if len(devices) == 1 else None
        for k in present.tolist():
            one = self.places[k]
            if one.device is None and len(devices) > 1:
                unsure[k] = True
            else:
                tracks[k] = self.track(one, one.device or only or FIRST_DEVICE)
        return tracks, unsure

    def are_wanted(self) -> BoolArray:
        """Tell which tracks' rows are written."""
        return np.array([one.is_wanted for one in self.tracks], dtype=np.bool_)

    def are_of_driver(self) -> BoolArray:
        """Tell which places are a driver's."""
        return np.array([one.type == HAL for one in self.places], dtype=np.bool_)

    def device_of(self, address: int) -> str:
        """Return the device of a pool's block: that of the driver's block around it."""
        for place, one in enumerate(self.places):
            is_driver = one.device is not None and one.type == HAL
            if is_driver and self._live.start_of(place, address) is not None:
                return one.device or FIRST_DEVICE
        return FIRST_DEVICE

    def of_tracks(self) -> IntArray:
        """Return the place of each track."""
        places = {id(place): k for k, place in enumerate(self.places)}
        return np.array([places[id(track.place)] for track in self.tracks], dtype=np.int64)
