"""A heatmap as OME-Zarr (NGFF 0.4, Zarr 2): float32 with a pyramid, scale and translation."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr

from hpc_heatmap.formats.atomic import PARTIAL_SUFFIX, storage_errors
from hpc_heatmap.formats.heatmap import CHUNK, Heatmap
from hpc_heatmap.formats.heatmap_place import place_of_level

__all__ = ["write_ome_zarr"]


def write_ome_zarr(
    path: Path, heatmap: Heatmap, name: str, offset_px: tuple[float, float] = (0.0, 0.0)
) -> None:
    """Write all levels, chunk by chunk; memory does not depend on the slide's size.

    Parameters
    ----------
    path
        The folder; it appears, complete, at the end, and takes the place of an earlier one.
    heatmap
        The scores; NaN off tissue is the fill value, and chunks without a score are not stored.
    name
        Name of the image.
    offset_px
        Subtracted from positions, (x, y), level-0 pixels.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    partial = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{path.suffix}{PARTIAL_SUFFIX}")
    try:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(partial, heatmap, name, offset_px)
            if path.exists():
                shutil.rmtree(path)
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(partial)
        raise


def _write(folder: Path, heatmap: Heatmap, name: str, offset_px: tuple[float, float]) -> None:
    group = zarr.open_group(str(folder), mode="w-", zarr_format=2)
    datasets = []
    for level in range(heatmap.n_levels):
        _write_level(group, level, heatmap)
        place = place_of_level(heatmap, level, offset_px)
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": list(place.step[::-1])},
                    {"type": "translation", "translation": list(place.origin[::-1])},
                ],
            }
        )
    in_um = place_of_level(heatmap, 0).in_um
    axes: list[dict[str, Any]] = [{"name": n, "type": "space"} for n in "yx"]
    if in_um:
        axes = [{**axis, "unit": "micrometer"} for axis in axes]
    multiscales: list[Any] = [
        {
            "version": "0.4",
            "name": name,
            "axes": axes,
            "datasets": datasets,
            "type": "mean",
            "metadata": {"description": "mean of the scored samples in 2 x 2"},
        }
    ]
    group.attrs["multiscales"] = multiscales
    group.attrs["omero"] = {
        "channels": [
            {
                "label": "lesion probability",
                "color": "FF0000",
                "active": True,
                "window": {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0},
            }
        ]
    }


def _write_level(group: zarr.Group, level: int, heatmap: Heatmap) -> None:
    dataset = heatmap.dataset(level)
    array = group.create_array(
        str(level),
        shape=dataset.shape,
        chunks=tuple(min(CHUNK, n) for n in dataset.shape),
        dtype=np.float32,
        fill_value=np.nan,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        overwrite=False,
    )
    for top in range(0, dataset.shape[0], CHUNK):
        for left in range(0, dataset.shape[1], CHUNK):
            here = np.s_[top : top + CHUNK, left : left + CHUNK]
            scores = dataset[here]
            if not np.isnan(scores).all():
                array[here] = scores
