"""Patches from files: folders ``class/name.jpg``, and tar files with such names in them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from hpc_heatmap.errors import TrainingError, brief
from hpc_heatmap.training.patches import Patches

__all__ = ["PatchFiles", "find_patch_files"]

#: Names of folders by class, lower case.
_CLASSES = {
    0: {"0", "normal", "negative", "benign", "non_tumor", "non-tumor"},
    1: {"1", "tumor", "tumour", "positive", "malignant", "metastasis"},
}
_LABELS = {name: label for label, names in _CLASSES.items() for name in names}
_IMAGES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
_TARS = (".tar", ".tar.gz", ".tgz")
_SPLITS = {"train": ("train", "training"), "valid": ("valid", "val", "validation")}


@dataclass(frozen=True)
class PatchFiles:
    """Where patches are, for training and, where they say so, for validation."""

    train: Path
    valid: Path | None = None


def find_patch_files(source: Path) -> PatchFiles:
    """Tell what a path holds: one set of patches, or a folder with a set for each split.

    Raises
    ------
    TrainingError
        It is neither a folder nor a tar file.
    """
    if source.is_dir():
        train, valid = (_split_in(source, split) for split in ("train", "valid"))
        return PatchFiles(train, valid) if train else PatchFiles(source)
    if source.is_file() and source.name.lower().endswith(_TARS):
        return PatchFiles(source)
    raise TrainingError(
        f"{source} is neither a folder of patches nor a tar file: give a folder with normal/ and "
        "tumor/ (or 0/ and 1/), a tar file of such, or a folder with train and valid."
    )


def _split_in(folder: Path, split: str) -> Path | None:
    for name in _SPLITS[split]:
        for candidate in (folder / name, *(folder / f"{name}{suffix}" for suffix in _TARS)):
            if candidate.exists():
                return candidate
    return None


def read_patch_files(
    source: Path, seen: set[bytes], on_patch: Callable[[int], None] = lambda n: None
) -> Patches:
    """Read a set of patches in the order of their names; copies of a file are left out.

    Parameters
    ----------
    source
        Folder or tar file.
    seen
        SHA-256 of the files so far; this set's are added. Shared between splits, it keeps the
        patches of training out of the validation.
    on_patch
        Called with the number of patches so far.

    Raises
    ------
    TrainingError
        There are no patches, a folder is of no known class, or a file is no image of the size of
        the others.
    """
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    n_copies = 0
    for name, content in sorted(_members(source)):
        digest = hashlib.sha256(content).digest()
        if digest in seen:
            n_copies += 1
            continue
        seen.add(digest)
        image = _decode(content, f"{source}: {name}")
        if images and image.shape != images[0].shape:
            height, width = images[0].shape[:2]
            raise TrainingError(
                f"{source}: {name} is {image.shape[1]} x {image.shape[0]} px and others are "
                f"{width} x {height} px: patches must be of one size."
            )
        images.append(image)
        labels.append(_label(source, name))
        on_patch(len(images))
    if not images:
        raise TrainingError(
            f"{source} holds no patches: it needs images in folders normal/ and tumor/ (or 0/ and "
            f"1/){', none of them a copy of those before' if n_copies else ''}."
        )
    if images[0].shape[0] != images[0].shape[1]:
        height, width = images[0].shape[:2]
        raise TrainingError(f"{source}: patches must be square, not {width} x {height} px.")
    return Patches(np.stack(images), np.array(labels, np.int64), n_copies)


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all images; hidden files are no patches."""
    if source.is_dir():
        for path in source.rglob("*"):
            if _is_patch(PurePosixPath(path.relative_to(source))) and path.is_file():
                yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and _is_patch(PurePosixPath(member.name)):
                    yield member.name, file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise TrainingError(f"{source} cannot be read as a tar file: {brief(error)}.") from error


def _is_patch(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") for part in name.parts if part not in {".", ".."})
    return name.suffix.lower() in _IMAGES and not hidden


def _label(source: Path, name: str) -> int:
    folder = PurePosixPath(name).parent.name
    label = _LABELS.get(folder.lower())
    if label is None:
        known = " or ".join(", ".join(sorted(names)) for names in _CLASSES.values())
        raise TrainingError(
            f"{source}: {name} lies in a folder of no known class: its folder must be named "
            f"{known}."
        )
    return label


def _decode(content: bytes, where: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise TrainingError(
            f"{where} is not an image that can be read: it is damaged or of another format; "
            "replace it or delete it."
        ) from error
