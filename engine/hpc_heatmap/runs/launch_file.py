"""Where and how a run was launched last, ``launch.json``: a resumed run goes on there."""

from __future__ import annotations

import os

from pydantic import ValidationError

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import read_json, write_json
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.settings import LaunchSettings

__all__ = ["read_launch", "write_launch"]


def read_launch(paths: RunPaths) -> LaunchSettings:
    """The last launch of a run; on this machine where it never was launched.

    Raises
    ------
    FormatError
        The file is damaged.
    """
    if not paths.launch.exists():
        return LaunchSettings()
    try:
        return LaunchSettings(**read_json(paths.launch))
    except (ValidationError, TypeError) as error:
        raise FormatError(f"{paths.launch} is damaged: delete it.") from error


def write_launch(paths: RunPaths, launch: LaunchSettings) -> None:
    """Remember a launch. A master does it, lease in hand, or who starts one."""
    values = launch.model_dump(mode="json")
    if launch.profile is not None:
        values["profile"] = os.path.abspath(launch.profile)
    write_json(paths.launch, values)
