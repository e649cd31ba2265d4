"""Reviews of lesions: what people say of what the machine found, ``reviews/ID/SESSION.jsonl``.

A journal that only grows: one line of JSON an event, synced before the call returns. Each writer
has a journal of its own, so that two never meet, whatever the file system; a reader merges all
journals of a slide by time. The machine's own result is never touched.

A line cut short at the end of a journal (a crash, a full disk) is left out. Each event tells only
what it changes; the last word on each counts. Positions are level-0 pixels in OpenSlide's frame.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from hpc_heatmap.errors import FormatError, RequestError
from hpc_heatmap.formats.atomic import storage_errors, sync_folder
from hpc_heatmap.formats.lesion_files import Ring

__all__ = ["Polygons", "Review", "ReviewJournal", "Verdict", "default_reviewer"]

VERSION = 1

Polygons = tuple[tuple[Ring, ...], ...]


class Verdict(StrEnum):
    """What a reviewer says of a lesion."""

    UNREVIEWED = "unreviewed"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Review:
    """The last word on one lesion.

    Attributes
    ----------
    lesion
        The machine's number as text, or the key of an outline that a reviewer has added.
    verdict, comment
        What was said.
    who, at
        Who said it last, and when, seconds since 1970.
    place_px
        Where the machine's lesion lay that was reviewed, (x, y); None for added outlines.
    polygons
        Outline that was added or redrawn, None where the machine's holds.
    removed
        Whether an added outline was taken back.
    """

    lesion: str
    verdict: Verdict = Verdict.UNREVIEWED
    comment: str = ""
    who: str = ""
    at: float = 0.0
    place_px: tuple[float, float] | None = None
    polygons: Polygons | None = None
    removed: bool = False

    @property
    def is_added(self) -> bool:
        """Whether a reviewer has drawn it and the machine has not found it."""
        return not self.lesion.isdigit()


def default_reviewer() -> str:
    """Name of the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


class ReviewJournal:
    """Reviews of one slide.

    Parameters
    ----------
    folder
        Folder of the slide's journals; made with the first event.
    who
        Name of the reviewer. Default: the user of this machine.
    """

    def __init__(self, folder: Path, who: str | None = None) -> None:
        self.folder = folder
        self.who = who or default_reviewer()
        self._path: Path | None = None
        #: Time of this writer's last event: a clock that is set back does not change its order.
        self._last_at = 0.0

    def mark(
        self,
        lesion: int | str,
        verdict: Verdict,
        comment: str | None = None,
        place_px: tuple[float, float] | None = None,
    ) -> None:
        """Say what a lesion is; without a comment an earlier one stays.

        Raises
        ------
        StorageError
            The run cannot be written.
        """
        event: dict[str, Any] = {"lesion": str(lesion), "verdict": Verdict(verdict).value}
        if comment is not None:
            event["comment"] = comment
        self._append(event, place_px)

    def comment(
        self, lesion: int | str, comment: str, place_px: tuple[float, float] | None = None
    ) -> None:
        """Change the comment alone.

        Raises
        ------
        StorageError
            The run cannot be written.
        """
        self._append({"lesion": str(lesion), "comment": comment}, place_px)

    def redraw(
        self,
        lesion: int | str,
        polygons: Iterable[Sequence[Any]],
        place_px: tuple[float, float] | None = None,
    ) -> None:
        """Give a lesion another outline; the machine's own stays in its file.

        Parameters
        ----------
        lesion
            Number, or key of an added outline.
        polygons
            Outer ring first, then holes, each of shape (n, 2): x, y in level-0 pixels.
        place_px
            Where the machine's lesion lies.

        Raises
        ------
        RequestError
            It encloses nothing.
        StorageError
            The run cannot be written.
        """
        self._append({"lesion": str(lesion), "polygons": _as_lists(polygons)}, place_px)

    def add(self, polygons: Iterable[Sequence[Any]], verdict: Verdict = Verdict.CONFIRMED) -> str:
        """Add an outline that the machine has not found; gives its key.

        Raises
        ------
        RequestError
            It encloses nothing.
        StorageError
            The run cannot be written.
        """
        key = f"drawn-{uuid4().hex[:8]}"
        event = {"lesion": key, "verdict": verdict.value, "polygons": _as_lists(polygons)}
        self._append(event, None)
        return key

    def remove(self, key: str) -> None:
        """Take back an added outline.

        Raises
        ------
        RequestError
            It is the machine's: those are rejected, not removed.
        StorageError
            The run cannot be written.
        """
        if key.isdigit():
            raise RequestError(f"Lesion {key} is the machine's: reject it instead.")
        self._append({"lesion": key, "removed": True}, None)

    def _append(self, event: dict[str, Any], place_px: tuple[float, float] | None) -> None:
        at = max(time.time(), self._last_at + 1e-6)
        line = {"version": VERSION, "at": at, "who": self.who, **event}
        if place_px is not None:
            line["place_px"] = [round(float(v), 1) for v in place_px]
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        fresh = self._path is None
        session = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:8]}"
        path = self._path or self.folder / f"{session}.jsonl"
        # After a failure the journal may end in half a line: the next event begins another.
        self._path = None
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if fresh:
                sync_folder(path.parent)
        self._path, self._last_at = path, at

    def read(self) -> dict[str, Review]:
        """The last word on every lesion that was reviewed, by lesion.

        Raises
        ------
        FormatError
            A journal is damaged elsewhere than at its end, or of a newer version.
        """
        reviews: dict[str, Review] = {}
        for event in self.history():
            lesion = str(event["lesion"])
            reviews[lesion] = _after(reviews.get(lesion, Review(lesion)), event)
        return {key: review for key, review in reviews.items() if not review.removed}

    def history(self) -> list[dict[str, Any]]:
        """Every event of every writer, in the order of time.

        Raises
        ------
        FormatError
            A journal is damaged elsewhere than at its end, or of a newer version.
        """
        events = []
        for path in sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []:
            events += _events(path)
        return sorted(events, key=lambda event: float(event["at"]))


def _events(path: Path) -> list[dict[str, Any]]:
    *lines, _cut = path.read_bytes().split(b"\n")
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            if int(event["version"]) > VERSION:
                raise FormatError(
                    f"{path} has reviews of version {event['version']}; this program reads up to "
                    f"{VERSION}: install a newer hpc-heatmap."
                )
            _after(Review(str(event["lesion"])), event)
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}, line {number}, is no review: mend the line or delete it; the other "
                "reviews are safe."
            ) from error
        events.append(event)
    return events


def _after(review: Review, event: dict[str, Any]) -> Review:
    """A review after one more event."""
    changes: dict[str, Any] = {"who": str(event["who"]), "at": float(event["at"])}
    if "verdict" in event:
        changes["verdict"] = Verdict(event["verdict"])
    if "comment" in event:
        changes["comment"] = str(event["comment"])
    if "polygons" in event:
        changes["polygons"] = tuple(
            tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in rings)
            for rings in event["polygons"]
        )
    if "place_px" in event:
        x_px, y_px = event["place_px"]
        changes["place_px"] = (float(x_px), float(y_px))
    if "removed" in event:
        changes["removed"] = bool(event["removed"])
    return replace(review, **changes)


def _as_lists(polygons: Iterable[Sequence[Any]]) -> list[list[list[list[float]]]]:
    from hpc_heatmap.formats.outline_shapes import shape_of

    arrays = [[np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings] for rings in polygons]
    finite = all(math.isfinite(float(ring.sum())) for rings in arrays for ring in rings)
    if not finite or shape_of(arrays).is_empty:
        raise RequestError("The outline encloses nothing: draw at least three points.")
    return [[[[round(x, 2), round(y, 2)] for x, y in r.tolist()] for r in rs] for rs in arrays]
