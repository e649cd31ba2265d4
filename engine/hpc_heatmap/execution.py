"""How a run's model is done, chosen once when the run is planned: all tasks give the same bits."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Execution"]


class Execution(BaseModel):
    """The way from windows to logits, and why it was chosen. The default is the model itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: 'model' is the file as its library runs it; 'program' the same network with batch norms
    #: folded into convolutions, by the engine.
    backend: Literal["model", "program"] = "model"
    #: What does the program's steps, but for those that windows share, which are torch's.
    runtime: Literal["torch", "onnxruntime", "openvino"] = "torch"
    #: In which numbers the program computes.
    precision: Literal["float32", "bfloat16"] = "float32"
    #: Whether torch does convolutions of 3 x 3 with fewer multiplications.
    winograd: bool = False
    #: Results of steps that the runtime keeps as bytes: number = scale * (byte - zero).
    levels: dict[str, tuple[float, int]] = {}
    #: Whether the windows of a patch share their early layers, at strides at which it pays.
    share: bool = False
    #: The stride that it was chosen for, and the last step that is shared there: None where each
    #: window is on its own. Windows share where they begin at multiples of the jump, read pixels.
    stride_px: int | None = None
    cut: str | None = None
    jump_px: int = 1
    #: Why not more, in words for the log and the report.
    reason: str = ""
    #: Estimated work of a patch, as a share of that of its windows each on its own.
    cost: float = 1.0
    #: Windows a second of one process when it was tried: each on its own, and as chosen.
    alone_windows_per_s: float | None = None
    windows_per_s: float | None = None
    #: Windows of the run's own slides on which it was compared with the model as its library runs
    #: it, and the largest difference of a probability.
    compared_windows: int = 0
    difference: float | None = None
