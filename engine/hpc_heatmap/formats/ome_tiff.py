"""A heatmap as OME-TIFF: float32 with a pyramid, tiled, its samples' size and place in um."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tifffile

from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.heatmap import CHUNK, Heatmap
from hpc_heatmap.formats.heatmap_place import place_of_level

__all__ = ["write_ome_tiff"]


def write_ome_tiff(
    path: Path, heatmap: Heatmap, name: str, offset_px: tuple[float, float] = (0.0, 0.0)
) -> None:
    """Write all levels, tile by tile; memory does not depend on the slide's size.

    Parameters
    ----------
    path
        Where to.
    heatmap
        The scores; NaN off tissue stays NaN.
    name
        Name of the image.
    offset_px
        Subtracted from positions, (x, y), level-0 pixels.

    Notes
    -----
    ``PhysicalSizeX`` and ``Y`` are the distance of samples, the plane's ``PositionX`` and ``Y``
    the centre of the first sample; in pixels of level 0 where the slide's spacing is unknown.
    """
    place = place_of_level(heatmap, 0, offset_px)
    unit = "µm" if place.in_um else "pixel"
    metadata: dict[str, Any] = {
        "axes": "YX",
        "Name": name,
        "Channel": {"Name": ["lesion probability"]},
        "PhysicalSizeX": place.step[0],
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": place.step[1],
        "PhysicalSizeYUnit": unit,
        "Plane": {
            "PositionX": [place.origin[0]],
            "PositionXUnit": [unit],
            "PositionY": [place.origin[1]],
            "PositionYUnit": [unit],
        },
    }
    size_bytes = 2 * heatmap.dataset().size * 4
    with (
        writing(path) as partial,
        tifffile.TiffWriter(partial, ome=True, bigtiff=size_bytes > 2**31) as writer,
    ):
        for level in range(heatmap.n_levels):
            dataset = heatmap.dataset(level)
            writer.write(
                _tiles(dataset),
                shape=dataset.shape,
                dtype=np.float32,
                tile=(CHUNK, CHUNK),
                compression="zlib",
                photometric="minisblack",
                metadata=metadata if level == 0 else None,
                subifds=heatmap.n_levels - 1 if level == 0 else None,
                subfiletype=1 if level else 0,
            )


def _tiles(dataset: h5py.Dataset) -> Iterator[npt.NDArray[np.float32]]:
    for top in range(0, dataset.shape[0], CHUNK):
        for left in range(0, dataset.shape[1], CHUNK):
            tile = np.full((CHUNK, CHUNK), np.nan, np.float32)
            part = dataset[top : top + CHUNK, left : left + CHUNK]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
