"""TIAToolbox's way from a slide to scores: SLIDE MODEL STRIDE; prints the number of windows.

Runs in TIAToolbox's own environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
import zarr
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.models_abc import ModelABC

WINDOW_PX = 224
#: Of the slide: TIAToolbox does not find it in a TIFF that is no vendor's.
SPACING_UM = 0.25


class Network(ModelABC):
    """A TorchScript file as TIAToolbox wants a model."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.network = torch.jit.load(path)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes."""
        return torch.softmax(self.network(images), 1)

    @staticmethod
    def preproc(image: np.ndarray) -> np.ndarray:
        """A window as the network was trained with it."""
        scaled = image.astype(np.float32) / 255
        mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
        return (scaled - mean) / std

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """Score some windows, (n, rows, columns, 3)."""
        images = batch_data.to(device).type(torch.float32).permute(0, 3, 1, 2).contiguous()
        model.eval()
        with torch.inference_mode():
            return model(images).cpu().numpy()


def main() -> None:
    """Let the patch predictor find tissue and score it."""
    slide, model, stride_px = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    spacing = [{"units": "mpp", "resolution": SPACING_UM}]
    predictor = PatchPredictor(
        model=Network(model), batch_size=32, num_workers=int(os.environ["PEER_WORKERS"])
    )
    predictor.model.preproc_func = Network.preproc
    found = predictor.run(
        images=[slide],
        patch_mode=False,
        ioconfig=IOPatchPredictorConfig(
            input_resolutions=spacing,
            output_resolutions=spacing,
            patch_input_shape=(WINDOW_PX, WINDOW_PX),
            stride_shape=(stride_px, stride_px),
        ),
        device="cpu",
        wsireader_kwargs={"mpp": (SPACING_UM, SPACING_UM)},
        save_dir=Path("tiatoolbox-output"),
        output_type="zarr",
        return_probabilities=True,
    )
    scores = zarr.open(found[slide])["probabilities"][:, 1]
    print(len(scores))


if __name__ == "__main__":
    main()
