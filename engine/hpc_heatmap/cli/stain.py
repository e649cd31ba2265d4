"""The command ``stain``: a target for stain normalization, estimated once and kept as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hpc_heatmap.cli.app import console
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.settings import StainMethod

__all__ = ["stain"]


def stain(
    picture: Annotated[Path, Parameter(help="Tissue as the model knows it: PNG, JPEG or TIFF.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="JSON to write, for `run --stain-target`.")],
    method: Annotated[StainMethod, Parameter(help="How to estimate it.")] = StainMethod.VAHADANE,
) -> int:
    """Estimate the stain of a picture, to change slides to it with `run --stain-target`."""
    from hpc_heatmap.formats.atomic import write_json
    from hpc_heatmap.stain.target import read_target

    if method is StainMethod.NONE:
        raise SettingsError("--method none estimates nothing: choose vahadane, macenko, reinhard.")
    if picture.suffix.lower() == ".json":
        raise SettingsError(f"{picture} is no picture: give a PNG, JPEG or TIFF of tissue.")
    if out.suffix.lower() != ".json" or out.is_dir():
        raise SettingsError(f"{out}: the name of a stain target must end with .json.")
    fit = read_target(picture, method)
    write_json(out, fit.model_dump(mode="json", exclude_none=True))
    console.print(f"{method.value}, {fit.n_pixels} tissue pixels", markup=False)
    for name in ("stains", "strongest", "means", "deviations"):
        if (values := getattr(fit, name)) is not None:
            console.print(f"{name}: {values}", markup=False)
    console.print(f"Written: {out}", markup=False)
    return 0
