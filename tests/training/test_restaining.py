"""Stain normalization before training: each patch as it would be by itself, failures counted."""

from __future__ import annotations

import numpy as np
import pytest
from patch_sets import write_patches
from PIL import Image
from reference import reference

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.fits import fit_stain
from hpc_heatmap.stain.transfer import change_stain
from hpc_heatmap.training.gathering import gather
from hpc_heatmap.training.settings import TrainingSettings
from hpc_heatmap.training.sources import TrainingSources


def test_each_patch_is_changed_by_its_own_estimate(tmp_path):
    template = reference("stain_reference/seed_stain_template.png")
    real = [np.asarray(Image.open(path).convert("RGB"))
            for path in sorted(reference("didsr_patches_256/tumor").glob("*.png"))[:4]]  # fmt: skip
    white = np.full_like(real[0], 245)
    for name, images in (("tumor", real), ("normal", [*real[:3], white])):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            # A pixel of difference, so that no file is a copy.
            changed = image.copy()
            changed[0, 0] = (number, 0, len(name))
            Image.fromarray(changed).save(tmp_path / "set" / name / f"{number}.png")
    sources = TrainingSources(patches=(tmp_path / "set",), valid_patches=())
    settings = TrainingSettings(
        window=224, valid_fraction=0.5, stain=StainMethod.MACENKO, stain_target=template
    )
    plain = gather(
        sources, settings.model_copy(update={"stain": StainMethod.NONE, "stain_target": None})
    )
    made = gather(sources, settings)
    target = fit_stain(np.asarray(Image.open(template).convert("RGB")), StainMethod.MACENKO)
    n_raw = 0
    for before, after in ((plain.train, made.train), (plain.valid, made.valid)):
        for raw, image in zip(before.images, after.images, strict=True):
            if raw.mean() > 240:
                np.testing.assert_array_equal(image, raw)
                n_raw += 1
            else:
                expected = change_stain(raw, fit_stain(raw, StainMethod.MACENKO), target)
                np.testing.assert_array_equal(image, expected)
                assert np.abs(image.astype(int) - raw).mean() > 1
    assert n_raw == 1
    assert "1 kept their colours" in made.origins[-1]


def test_a_method_needs_a_target(tmp_path):
    sources = TrainingSources(patches=(write_patches(tmp_path / "set", 4),))
    with pytest.raises(SettingsError, match="needs --stain-target"):
        gather(sources, TrainingSettings(stain=StainMethod.MACENKO, window=32))
