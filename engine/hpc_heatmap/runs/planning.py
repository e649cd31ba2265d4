"""From a request to a run directory: everything is checked before anything is written."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from hpc_heatmap.digest import sha256_of
from hpc_heatmap.errors import (
    MissingSpacingError,
    ModelError,
    RunConflictError,
    SettingsError,
    SlideError,
    SlideNotFoundError,
)
from hpc_heatmap.formats.atomic import PARTIAL_SUFFIX, storage_errors, writing
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import (
    ModelEntry,
    RunFile,
    SlideEntry,
    read_run_file,
    write_run_file,
)
from hpc_heatmap.geometry import raw_patch_bytes
from hpc_heatmap.model import (
    Classifier,
    Descriptor,
    NetworkClassifier,
    Trial,
    check_model,
    choose_execution,
    find_descriptor,
    known_check,
    known_execution,
    load_classifier,
    program_copy,
    read_descriptor,
    traced_copy,
)
from hpc_heatmap.model.loading import SUFFIXES, check_file
from hpc_heatmap.runs.provenance import provenance
from hpc_heatmap.runs.sampling import sample_patches
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.slide import Slide
from hpc_heatmap.slide_list import collect_slides, slide_ids
from hpc_heatmap.stages.grouping import slide_geometry
from hpc_heatmap.stain.target import chosen_target
from hpc_heatmap.tissue import method_names

__all__ = ["create_run", "plan_run", "windows_per_second"]

PathLike = str | os.PathLike[str]

_MEMORY_FORMATS = {False: "contiguous", True: "channels_last"}
#: Patches on which rougher numbers are compared with exact ones.
_TOLERANCE_PATCHES = 16


def plan_run(
    slides: Sequence[PathLike],
    model: PathLike | Classifier,
    settings: RunSettings,
    *,
    model_config: PathLike | None = None,
) -> RunFile:
    """Check a request and say what it will compute. Nothing is written.

    Parameters
    ----------
    slides
        Files and folders.
    model
        A model file, or a classifier in memory.
    settings
        What the user chose.
    model_config
        The model's descriptor, where it is not beside the model.

    Raises
    ------
    RequestError
        The request is wrong: a slide or the model cannot be used, a setting is out of range.
    """
    if not slides:
        raise SlideNotFoundError("No slide was given.")
    if settings.tissue_method not in method_names():
        raise SettingsError(
            f"There is no tissue method '{settings.tissue_method}': choose one of "
            f"{', '.join(method_names())}."
        )
    paths = collect_slides(slides)
    if isinstance(model, str | os.PathLike):
        entry, load = _model_file(Path(model), model_config, settings)
    else:
        load = partial(lambda given: given, model)
        entry = ModelEntry(
            name=type(model).__name__,
            window_px=model.window_px,
            requested_spacing_um=settings.requested_spacing or model.requested_spacing_um,
        )
    stride = settings.stride or max(1, entry.window_px // 4)
    if stride > entry.window_px:
        raise SettingsError(
            f"A stride of {stride} px is larger than the model's window of {entry.window_px} px: "
            f"give one from 1 to {entry.window_px}."
        )
    target = chosen_target(settings.stain, settings.stain_target)
    settings.coarse_stride_px(stride, entry.window_px)
    settings.n_p(raw_patch_bytes(entry.window_px))
    entries, problems = [], []
    for slide_id, path in zip(slide_ids(paths), paths, strict=True):
        try:
            entries.append(_slide_entry(slide_id, path, entry, settings))
        except MissingSpacingError:
            raise
        except SlideError as error:
            # The others go on without it.
            problems.append(error)
            entries.append(SlideEntry(id=slide_id, path=str(path), problem=str(error)))
    if len(problems) == len(entries):
        raise problems[0] if len(problems) == 1 else SlideError(" ".join(map(str, problems)))
    if isinstance(model, str | os.PathLike):
        entry = _with_execution(Path(model), entry, load, entries, stride, settings)
    elif check_model(model, settings.batch_size):
        entry = entry.model_copy(update={"memory_format": "channels_last"})
    return RunFile(
        settings=settings,
        stride_px=stride,
        model=entry,
        slides=tuple(entries),
        stain_target=target,
        provenance=provenance(),
        windows_per_s=entry.execution.windows_per_s
        or windows_per_second(load(), settings.batch_size),
    )


def _model_file(
    path: Path, config: PathLike | None, settings: RunSettings
) -> tuple[ModelEntry, Callable[[], NetworkClassifier]]:
    """What is known of a model file, and what loads it: one that never was is loaded now."""
    check_file(path)
    descriptor_path = find_descriptor(path, Path(config) if config else None)
    descriptor = read_descriptor(descriptor_path)
    index = _lesion_index(descriptor, settings, descriptor_path)
    entry = ModelEntry(
        file=f"model{path.suffix}",
        source=os.path.abspath(path),
        sha256=sha256_of(path),
        descriptor_sha256=sha256_of(descriptor_path),
        name=descriptor.name or path.stem,
        lesion_class=descriptor.class_names[index],
        window_px=descriptor.patch_size_pixels,
        requested_spacing_um=settings.requested_spacing or descriptor.spacing_um_px,
    )
    channels_last = known_check(settings.batch_size, _sha256s(entry))
    load = cache(
        lambda: load_classifier(
            path, descriptor, lesion_class=entry.lesion_class, channels_last=bool(channels_last)
        )
    )
    if channels_last is None:
        load()
    return entry, load


def _sha256s(entry: ModelEntry) -> list[str]:
    return [str(entry.sha256), str(entry.descriptor_sha256)]


def _with_execution(
    path: Path,
    entry: ModelEntry,
    load: Callable[[], NetworkClassifier],
    slides: Sequence[SlideEntry],
    stride_px: int,
    settings: RunSettings,
) -> ModelEntry:
    """A model's entry with how it is done, found out where that is not known on this machine."""
    checked = known_check(settings.batch_size, _sha256s(entry))
    if checked is None:
        checked = check_model(load(), settings.batch_size, _sha256s(entry))
    exact = settings.tolerance is None
    trial = Trial(
        path=path,
        sha256=str(entry.sha256),
        stride_px=stride_px,
        batch_size=settings.batch_size,
        patches=sample_patches(slides, entry, settings, 2 if exact else _TOLERANCE_PATCHES),
        tolerance=settings.tolerance,
        fed=f"{entry.descriptor_sha256} {entry.lesion_class}",
    )
    execution = known_execution(trial)
    if execution is None:
        execution = choose_execution(load(), trial)
    return entry.model_copy(
        update={"memory_format": _MEMORY_FORMATS[checked], "execution": execution}
    )


def _lesion_index(descriptor: Descriptor, settings: RunSettings, path: Path) -> int:
    try:
        return descriptor.lesion_index(settings.lesion_class)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _slide_entry(slide_id: str, path: Path, model: ModelEntry, settings: RunSettings) -> SlideEntry:
    """What is known of a slide.

    Raises
    ------
    SlideError
        It cannot be used.
    """
    with Slide(path, spacing_um=settings.spacing) as slide:
        view = slide.view(model.requested_spacing_um)
        slide_geometry(view, model.window_px, model.window_px)
        return SlideEntry(
            id=slide_id,
            path=str(path),
            quickhash=slide.quickhash,
            bytes=path.stat().st_size,
            vendor=slide.vendor,
            width_px=slide.width_px,
            height_px=slide.height_px,
            spacing_um=slide.spacing_um,
            spacing_source=slide.spacing_source,
            icc_profile=slide.has_icc_profile,
        )


def windows_per_second(classifier: Classifier, batch_size: int) -> float:
    """Windows a second of this process, from a second of noise at most."""
    side = classifier.window_px
    noise = np.random.default_rng(0).integers(0, 256, (2 * side, 2 * side, 3), np.uint8)
    windows = [classifier.cut(classifier.prepare(noise), 0, 0)] * batch_size
    started, scored = time.perf_counter(), 0
    while True:
        classifier.scores(windows)
        scored += batch_size
        elapsed = time.perf_counter() - started
        if elapsed > 0.3 or scored > 20 * batch_size:
            return scored / elapsed


def create_run(
    root: PathLike,
    run: RunFile,
    *,
    model: Path | None = None,
    descriptor: Path | None = None,
) -> RunPaths:
    """Make a run directory, or find that it holds the same request already.

    Parameters
    ----------
    root
        The directory; made where it does not exist.
    run
        What is asked.
    model, descriptor
        Files to copy into the run.

    Raises
    ------
    RunConflictError
        The directory holds another run, or other files.
    StorageError
        It cannot be written.
    """
    paths = RunPaths(Path(os.path.abspath(root)))
    if paths.run_file.exists():
        differences = read_run_file(paths.run_file).differences(run)
        if differences:
            raise RunConflictError(
                f"{paths.root} holds another run: {'; '.join(differences)}. Resume it with "
                f"`hpc-heatmap resume {root}`, or give another directory with --out."
            )
        return paths
    if paths.root.exists() and not _is_free(paths):
        raise RunConflictError(
            f"{paths.root} is not empty and holds no run: give a new or empty directory with --out."
        )
    made, fresh = not paths.root.exists(), not paths.model_folder.exists()
    try:
        with storage_errors(paths.root):
            paths.root.mkdir(parents=True, exist_ok=True)
        for source, target in ((model, run.model.file), (descriptor, paths.descriptor.name)):
            if source is not None and target is not None:
                with writing(paths.model_folder / target) as partial:
                    shutil.copyfile(source, partial)
        if model is not None and run.model.file is not None:
            _write_faster_forms(paths, run.model)
        write_run_file(paths.run_file, run)
    except BaseException:
        if fresh:
            shutil.rmtree(paths.model_folder, ignore_errors=True)
        if made:
            shutil.rmtree(paths.root, ignore_errors=True)
        raise
    return paths


def _write_faster_forms(paths: RunPaths, model: ModelEntry) -> None:
    """Keep what tasks load faster beside the model, where there can be such a thing."""
    # A plan that was killed may have left another model's.
    paths.traced_model.unlink(missing_ok=True)
    paths.program.unlink(missing_ok=True)
    file, descriptor = paths.model_folder / str(model.file), read_descriptor(paths.descriptor)
    if model.execution.backend == "program":
        with writing(paths.program) as partial:
            partial.write_bytes(program_copy(file, str(model.sha256), descriptor))
        return
    copy = traced_copy(file, descriptor, channels_last=model.memory_format == "channels_last")
    if copy is not None:
        with writing(paths.traced_model) as partial:
            partial.write_bytes(copy)


def _is_free(paths: RunPaths) -> bool:
    """Whether a directory is empty, or holds only what a plan leaves that was killed."""
    if not paths.root.is_dir():
        return False
    entries = [entry for entry in paths.root.iterdir() if entry != paths.model_folder]
    if paths.model_folder.is_dir():
        entries += [
            entry
            for entry in paths.model_folder.iterdir()
            if entry.name
            not in {
                paths.descriptor.name,
                paths.traced_model.name,
                paths.program.name,
                *(f"model{s}" for s in SUFFIXES),
            }
        ]
    elif paths.model_folder.exists():
        return False
    return all(e.name.startswith(".") and e.name.endswith(PARTIAL_SUFFIX) for e in entries)
