"""The request, ``run.json``: slides, model, settings and where it all came from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hpc_heatmap.errors import FormatError, RunConflictError
from hpc_heatmap.execution import Execution
from hpc_heatmap.formats.atomic import read_json, write_json
from hpc_heatmap.formats.paths import FORMAT_VERSION
from hpc_heatmap.geometry import raw_patch_bytes
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.stain.fits import StainFit

__all__ = ["ModelEntry", "RunFile", "SlideEntry", "read_run_file", "write_run_file"]

KIND = "hpc-heatmap run"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SlideEntry(_Entry):
    """One slide as it was when the run was planned."""

    id: str
    path: str
    #: Why the slide cannot be used; the rest of the run goes on without it.
    problem: str | None = None
    #: OpenSlide's own identity of the slide, independent of its path.
    quickhash: str | None = None
    bytes: int = 0
    vendor: str = ""
    width_px: int = 0
    height_px: int = 0
    #: Micrometres per level-0 pixel (x, y), and where they come from: given, slide, tiff, unknown.
    spacing_um: tuple[float, float] | None = None
    spacing_source: str = "unknown"
    #: Whether the slide has a colour profile. It is never applied: models see raw pixels.
    icc_profile: bool = False


class ModelEntry(_Entry):
    """The model, copied into the run. A Python function has no file and runs in process alone."""

    file: str | None = None
    source: str = ""
    sha256: str | None = None
    descriptor_sha256: str | None = None
    name: str = ""
    lesion_class: str | None = None
    window_px: int
    requested_spacing_um: float | None = None
    #: How batches lie in memory, chosen once for all tasks: contiguous or channels_last.
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    #: How it is done, chosen once for all tasks.
    execution: Execution = Execution()


class RunFile(_Entry):
    """Everything that decides what a run computes, and its provenance."""

    format: str = KIND
    format_version: int = FORMAT_VERSION
    settings: RunSettings
    stride_px: int
    model: ModelEntry
    slides: tuple[SlideEntry, ...]
    #: What slides are changed to before they are scored, as it was when the run was planned.
    stain_target: StainFit | None = None
    #: Versions, host, command line and time of the plan.
    provenance: dict[str, Any] = {}
    #: Windows a second of one process, measured when the run was planned.
    windows_per_s: float | None = None

    def most_groups(self) -> int:
        """Groups of the run, were all of its slides tissue."""
        window_px, wanted_um = self.model.window_px, self.model.requested_spacing_um
        patch_bytes, found = raw_patch_bytes(window_px), 0
        for slide in self.slides:
            x_um, y_um = slide.spacing_um or (1.0, 1.0)
            scale_x, scale_y = (x_um / wanted_um, y_um / wanted_um) if wanted_um else (1.0, 1.0)
            columns = math.ceil(slide.width_px * scale_x / window_px)
            cells = columns * math.ceil(slide.height_px * scale_y / window_px)
            found += math.ceil(cells / self.settings.n_p(patch_bytes, cells))
        return found

    def differences(self, other: RunFile) -> list[str]:
        """What makes another request a different one, in words; empty where nothing does."""
        found = []
        mine, theirs = self.settings.model_dump(mode="json"), other.settings.model_dump(mode="json")
        mine["stride"], theirs["stride"] = self.stride_px, other.stride_px
        # What was estimated from the target's file counts, not where it lies.
        del mine["stain_target"]
        for name, value in mine.items():
            if theirs[name] != value:
                label = name.replace("_", "-")
                found.append(f"{label} is {_said(value)}, asked {_said(theirs[name])}")
        for name in (
            "sha256", "descriptor_sha256", "lesion_class", "window_px", "requested_spacing_um"
        ):  # fmt: skip
            a, b = getattr(self.model, name), getattr(other.model, name)
            if a != b:
                name = name.replace("_", " ")
                found.append(f"the model's {name} is {_said(a)}, asked {_said(b)}")
        if self.stain_target != other.stain_target and mine["stain"] == theirs["stain"]:
            found.append("its stain target is another one")
        # A DICOM slide may be named by any of its files.
        named = {s.quickhash: s.path for s in self.slides if s.vendor == "dicom"}
        before = {s.path: s.quickhash for s in self.slides}
        asked = {named.get(s.quickhash, s.path): s.quickhash for s in other.slides}
        extra, lacking = (
            [p for p in before if p not in asked],
            [p for p in asked if p not in before],
        )
        found += [f"it has the slide {path}, which is not asked" for path in extra[:3]]
        found += [f"it lacks the slide {path}" for path in lacking[:3]]
        for path, identity in before.items():
            if path in asked and identity and asked[path] and asked[path] != identity:
                found.append(f"the slide {path} is another file now")
        return found


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)


def write_run_file(path: Path, run: RunFile) -> None:
    """Write a run's request."""
    write_json(path, run.model_dump(mode="json"))


def read_run_file(path: Path) -> RunFile:
    """Read a run's request.

    Raises
    ------
    RunConflictError
        The directory holds no run, or one of a newer version.
    FormatError
        The file is damaged.
    """
    if not path.is_file():
        raise RunConflictError(f"{path.parent} is no run directory: it has no {path.name}.")
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != KIND:
        raise RunConflictError(f"{path} is not the file of a run.")
    if values.get("format_version", 0) > FORMAT_VERSION:
        raise RunConflictError(
            f"{path} has format version {values['format_version']}; this program reads up to "
            f"{FORMAT_VERSION}: install a newer hpc-heatmap."
        )
    try:
        return RunFile(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise FormatError(f"{path} is damaged: {place}: {first['msg']}.") from error
