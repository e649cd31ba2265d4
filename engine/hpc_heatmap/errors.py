"""Every error that a user can meet, in one tree.

::

    HpcHeatmapError
    ├── RequestError (ValueError)          the request is wrong: nothing was started (exit code 2)
    │   ├── SlideError                     a slide cannot be used
    │   │   ├── SlideNotFoundError (FileNotFoundError)
    │   │   ├── UnsupportedSlideError      not a slide that OpenSlide can open
    │   │   ├── SlideTooSmallError         smaller than one patch
    │   │   └── MissingSpacingError        micrometres per pixel are needed and unknown
    │   ├── ModelError                     a model file or its descriptor cannot be used
    │   │   └── UnsafeModelError           a file format that executes pickled code
    │   ├── SettingsError                  a setting is out of its range
    │   ├── EvaluationError                detections, scores or truth cannot be evaluated
    │   ├── TrainingError                  patches, slides or outlines cannot be trained on
    │   └── RunConflictError               the run directory holds something else
    └── WorkError (RuntimeError)           work has failed; what is complete is safe (exit code 1)
        ├── TileError                      a region of a slide cannot be read
        ├── NoTissueError                  nothing to score on a slide
        ├── UnreadableSlideError           no tissue of a slide can be decoded
        ├── StainError                     a stain cannot be estimated; raw colours are used
        ├── ModelOutputError               a model gave NaN or the wrong shape
        ├── FormatError                    a file of a run cannot be read
        ├── SchedulerError                 a cluster's scheduler refuses or does not answer
        ├── StorageError (OSError)         a directory is full or out of reach
        │   └── ReadOnlyError              it may not be written (exit code 2: choose another)
        └── Interrupted                    stopped on request; `resume` goes on

A message says what is wrong, with which file, what is allowed, and the way out.
"""

from __future__ import annotations

import re
from typing import ClassVar


def brief(error: BaseException) -> str:
    """First line of what a library says, without a full stop, to be put inside a sentence."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip())
    return text.splitlines()[0].strip().rstrip(".") if text else type(error).__name__


class HpcHeatmapError(Exception):
    """Root of all errors of this package."""

    exit_code: ClassVar[int] = 1
    #: What cannot go on: the rest of the "run", of the "slide", or nothing else ("group").
    scope: ClassVar[str] = "group"


class RequestError(HpcHeatmapError, ValueError):
    """The request is wrong; nothing was started."""

    exit_code = 2
    scope = "run"


class SlideError(RequestError):
    """A slide cannot be used."""

    scope = "slide"


class SlideNotFoundError(SlideError, FileNotFoundError):
    """There is no such slide."""


class UnsupportedSlideError(SlideError):
    """OpenSlide cannot open the file."""


class SlideTooSmallError(SlideError):
    """The slide is smaller than one patch."""


class MissingSpacingError(SlideError):
    """The slide does not say its micrometres per pixel, and they are needed."""


class ModelError(RequestError):
    """A model file or its descriptor cannot be used."""


class UnsafeModelError(ModelError):
    """The model file is of a format that executes pickled code when it is loaded."""


class SettingsError(RequestError):
    """A setting is out of its range."""


class EvaluationError(RequestError):
    """Detections, scores or truth cannot be evaluated."""


class TrainingError(RequestError):
    """Patches, slides or outlines cannot be trained on."""


class RunConflictError(RequestError):
    """The run directory holds something else, or another master works on it."""


class WorkError(HpcHeatmapError, RuntimeError):
    """Work has failed; everything that was complete is safe."""


class TileError(WorkError):
    """A region of a slide cannot be decoded."""


class NoTissueError(WorkError):
    """No tissue was found on a slide."""

    scope = "slide"


class UnreadableSlideError(WorkError):
    """No tissue of a slide can be decoded."""

    scope = "slide"


class StainError(WorkError):
    """A stain cannot be estimated from some pixels; they keep their raw colours."""


class ModelOutputError(WorkError):
    """A model gave something that is not a probability."""

    scope = "run"


class FormatError(WorkError):
    """A file of a run cannot be read."""


class SchedulerError(WorkError):
    """A cluster's scheduler refuses or does not answer."""

    scope = "run"


class StorageError(WorkError, OSError):
    """A directory is full, read-only or out of reach."""

    scope = "run"


class ReadOnlyError(StorageError):
    """A directory may not be written, so the request names the wrong one."""

    exit_code = 2


class Interrupted(WorkError):  # noqa: N818 - a request, not a fault
    """Stopped on request; ``hpc-heatmap resume`` goes on from here."""

    scope = "run"
