#!/usr/bin/env python3
"""Train the small demonstration tumour classifier on PatchCamelyon patches.

Run from the root of the repository::

    python scripts/train_demo_model.py --data ../shared/data/pcam

The data folder holds ``train.tar`` and ``valid.tar`` with members named
``train/{0,1}/patchNNNNNNN.jpg`` (96 x 96 RGB, about 0.972 um per pixel; label 1 means that the
centre 32 x 32 pixels contain tumour). Byte-identical patches are removed, every patch is decoded
once into memory, a small residual network is trained, and the epoch with the highest validation
AUC is written to the output folder:

``model.pt2``
    the network in evaluation mode, saved by :func:`torch.export.save`, any batch size;
``model.json``
    a WSInfer-style description of its input and its classes;
``training_log.csv``
    one line per epoch;
``MODEL_CARD.md``
    what the model is, what was measured and what it must not be used for.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

PATCH_SIZE = 96
SPACING_UM = 0.972
CLASS_NAMES = ("normal", "tumor")
CHANNEL_MEAN = (0.70, 0.54, 0.69)
CHANNEL_STD = (0.24, 0.28, 0.21)
MAX_BATCH = 4096
LARGEST_SHIFT = 3
EVALUATION_BATCH = 125
EXPORT_TOLERANCE = 1e-5

# Optical density of haematoxylin, eosin and a residual (Ruifrok and Johnston 2001), one per row.
STAIN_VECTORS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]


# --------------------------------------------------------------------------------------- network


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation around a shortcut.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    stride
        1, or 2 to halve the size; the shortcut then averages 2 x 2 pixels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.AvgPool2d(stride))
        if inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for a batch of feature maps."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class PatchResNet(nn.Module):
    """Small residual network for 96 x 96 patches whose label concerns the centre.

    The last feature map (12 x 12) is averaged over a 3 x 3 grid before the linear layer. The
    middle cell of the grid is exactly the labelled centre of the patch, so the network can tell
    the centre from its surroundings.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            ResidualBlock(16, 16, 1),
            ResidualBlock(16, 32, 2),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 64, 1),
            ResidualBlock(64, 64, 1),
        )
        self.pool = nn.AvgPool2d(4)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(64 * 9, len(CLASS_NAMES))

    def forward(self, x: Tensor) -> Tensor:
        """Return the two logits of every normalised patch, shape ``(batch, 2)``."""
        x = F.relu(self.stem_norm(self.stem(x)))
        x = self.pool(self.blocks(x))
        return cast(Tensor, self.classifier(self.dropout(torch.flatten(x, 1))))


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained values of a network."""
    return sum(p.numel() for p in model.parameters())


# ------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class Patches:
    """Decoded patches of one split.

    Attributes
    ----------
    images
        ``uint8``, shape ``(count, 96, 96, 3)``.
    labels
        ``int64``, 1 for tumour.
    duplicates
        Number of byte-identical copies that were left out.
    groups
        Number of different files of which there were such copies.
    """

    images: Tensor
    labels: Tensor
    duplicates: int
    groups: int

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self.labels)


def read_members(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield name, label and bytes of every JPEG file of a tar file."""
    with tarfile.open(path) as archive:
        for member in archive:
            handle = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if handle is not None:
                yield member.name, int(Path(member.name).parent.name), handle.read()


def load_patches(path: Path, seen: set[bytes]) -> Patches:
    """Decode a split and leave out the copies of files that were seen before.

    Parameters
    ----------
    path
        Tar file.
    seen
        SHA-256 digests of the files read so far; this split's are added. Sharing it between the
        splits also keeps the training patches out of the validation split.

    Returns
    -------
    Patches
        In the order of the file names, whatever their order in the tar file.
    """
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    copies: list[bytes] = []
    for name, label, data in sorted(read_members(path)):
        digest = hashlib.sha256(data).digest()
        if digest in seen:
            copies.append(digest)
            continue
        seen.add(digest)
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        if image.shape != (PATCH_SIZE, PATCH_SIZE, 3):
            raise ValueError(f"{name} in {path.name} has the shape {image.shape}")
        images.append(image)
        labels.append(label)
    if not images:
        raise ValueError(f"{path.name} holds no patches")
    pixels = torch.from_numpy(np.stack(images))
    return Patches(pixels, torch.tensor(labels), len(copies), len(set(copies)))


def normalise(unit_rgb: Tensor) -> Tensor:
    """Turn NHWC values between 0 and 1 into a normalised NCHW batch (channels-last memory)."""
    mean, std = torch.tensor(CHANNEL_MEAN), torch.tensor(CHANNEL_STD)
    return ((unit_rgb - mean) / std).permute(0, 3, 1, 2)


# ---------------------------------------------------------------------------------- augmentation


class Augmenter:
    """Random quarter turns, flips, small shifts and changes of stain for one batch.

    Parameters
    ----------
    generator
        Source of all the random numbers.
    stain
        Largest relative change of each stain's density. The largest absolute change of density is
        one sixth of it, the largest relative change of brightness one quarter.
    """

    def __init__(self, generator: torch.Generator, stain: float) -> None:
        self.generator = generator
        self.stain_scale = stain
        self.stain_shift = stain / 6.0
        self.brightness = stain / 4.0
        stains = torch.tensor(STAIN_VECTORS)
        self.to_rgb = stains / stains.norm(dim=1, keepdim=True)
        self.from_rgb = torch.linalg.inv(self.to_rgb)
        self.density = -torch.log((torch.arange(256, dtype=torch.float32) + 1.0) / 256.0)

    def _symmetric(self, *shape: int) -> Tensor:
        """Return random numbers between -1 and 1."""
        return torch.rand(shape, generator=self.generator) * 2.0 - 1.0

    def move(self, images: Tensor) -> Tensor:
        """Turn, flip and shift; patch ``i`` gets the ``i % 8``-th of the square's symmetries.

        The batch must be in random order, so that a patch meets all eight over the epochs.
        """
        out = torch.empty_like(images)
        for k in range(8):
            part = images[k::8]
            if len(part) == 0:
                continue
            if k >= 4:
                part = part.flip(2)
            part = torch.rot90(part, k % 4, (1, 2))
            out[k::8] = self._shift(part)
        return out

    def _shift(self, images: Tensor) -> Tensor:
        """Shift all the given images by the same few pixels, repeating the border."""
        pair = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2,), generator=self.generator)
        dy, dx = (int(v) for v in pair)
        rows = (torch.arange(PATCH_SIZE) + dy).clamp(0, PATCH_SIZE - 1)
        columns = (torch.arange(PATCH_SIZE) + dx).clamp(0, PATCH_SIZE - 1)
        return images[:, rows][:, :, columns]

    def restain(self, images: Tensor) -> Tensor:
        """Change the density of each stain and the brightness of each ``uint8`` image.

        Returns
        -------
        Tensor
            Values between 0 and 1.
        """
        n = len(images)
        scale = 1.0 + self.stain_scale * self._symmetric(n, 1, 3)
        shift = self.stain_shift * self._symmetric(n, 1, 3)
        matrix = (self.from_rgb * scale) @ self.to_rgb
        light = torch.log1p(self.brightness * self._symmetric(n, 1, 1))
        density = self.density[images.reshape(n, -1, 3).int()]
        density = torch.baddbmm(shift @ self.to_rgb - light, density, matrix)
        return density.neg_().exp_().clamp_(0.0, 1.0).reshape(images.shape)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised batch for ``uint8`` NHWC images in random order."""
        return normalise(self.restain(self.move(images)))


# ------------------------------------------------------------------------------------ evaluation


def area_under_curve(labels: IntArray, scores: FloatArray) -> float:
    """Return the area under the ROC curve by the rank formula; ties count one half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    positive = labels == 1
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2.0) / (n_pos * n_neg))


@torch.no_grad()
def predict(model: nn.Module, patches: Patches) -> Tensor:
    """Return the logits of all the patches of a split."""
    chunks = torch.split(patches.images, EVALUATION_BATCH)
    parts = [model(normalise(part / 255.0)) for part in chunks]
    return torch.cat(parts)


def evaluate(model: nn.Module, patches: Patches) -> tuple[float, float]:
    """Return the mean cross-entropy and the AUC on a split."""
    logits = predict(model, patches)
    scores = (logits[:, 1] - logits[:, 0]).double()
    loss = float(F.cross_entropy(logits, patches.labels))
    return loss, area_under_curve(patches.labels.numpy(), scores.numpy())


def accuracy_at_half(model: nn.Module, patches: Patches) -> float:
    """Return the share of patches whose most probable class is right."""
    return float((predict(model, patches).argmax(1) == patches.labels).double().mean())


# -------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Settings:
    """Settings of a training run that the command line can change."""

    epochs: int
    seed: int
    batch: int
    learning_rate: float
    stain: float
    precision: str
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    average_decay: float = 0.995


@dataclass(frozen=True)
class Epoch:
    """One line of the training log; the validation values are those of the averaged weights."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_auc: float


class WeightAverage:
    """Exponential moving average of a network's weights and batch statistics."""

    def __init__(self, model: PatchResNet, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.model = PatchResNet().eval()
        self.model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the present weights, faster in the first steps."""
        self.steps += 1
        weight = 1.0 - min(self.decay, (1.0 + self.steps) / (10.0 + self.steps))
        current = model.state_dict()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], weight)
            else:
                value.copy_(current[name])


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """Return AdamW that decays the matrices and kernels but not the biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def arithmetic(precision: str) -> AbstractContextManager[object]:
    """Return the context in which the training's forward pass runs."""
    if precision == "bfloat16":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


class Trainer:
    """Train a network and keep the averaged weights of the best epoch.

    Parameters
    ----------
    train, valid
        The two splits.
    settings
        Settings of the run.
    """

    def __init__(self, train: Patches, valid: Patches, settings: Settings) -> None:
        self.train, self.valid, self.settings = train, valid, settings
        torch.manual_seed(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.augment = Augmenter(self.generator, settings.stain)
        self.model = PatchResNet()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.model, settings.average_decay)
        self.optimizer = make_optimizer(self.model, settings)
        self.steps_per_epoch = len(train) // settings.batch
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=settings.learning_rate,
            total_steps=settings.epochs * self.steps_per_epoch + 1,
            pct_start=0.2,
            cycle_momentum=False,
            final_div_factor=1000.0,
        )
        self.log: list[Epoch] = []
        self.best_state: dict[str, Tensor] = {}
        self.best = Epoch(0, math.inf, math.inf, -math.inf)

    def step(self, index: Tensor) -> float:
        """Train on one batch of patch numbers and return its loss."""
        inputs = self.augment(self.train.images[index])
        with arithmetic(self.settings.precision):
            logits = self.model(inputs)
        loss = F.cross_entropy(
            logits.float(),
            self.train.labels[index],
            label_smoothing=self.settings.label_smoothing,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.average.update(self.model)
        return float(loss.detach())

    def run_epoch(self, number: int) -> Epoch:
        """Train for one epoch, evaluate the averaged weights and keep them if they are best."""
        self.model.train()
        order = torch.randperm(len(self.train), generator=self.generator)
        used = order[: self.steps_per_epoch * self.settings.batch]
        batches = torch.split(used, self.settings.batch)
        train_loss = sum(self.step(index) for index in batches) / len(batches)
        result = Epoch(number, train_loss, *evaluate(self.average.model, self.valid))
        self.log.append(result)
        if result.valid_auc > self.best.valid_auc:
            self.best = result
            state = self.average.model.state_dict()
            self.best_state = {name: value.clone() for name, value in state.items()}
        return result

    def run(self) -> PatchResNet:
        """Train for all the epochs, print progress and return the best network."""
        start = time.monotonic()
        for number in range(1, self.settings.epochs + 1):
            result = self.run_epoch(number)
            elapsed = time.monotonic() - start
            left = elapsed / number * (self.settings.epochs - number)
            print(
                f"epoch {number:3d}/{self.settings.epochs}  train loss {result.train_loss:.4f}  "
                f"valid loss {result.valid_loss:.4f}  valid AUC {result.valid_auc:.4f}  "
                f"elapsed {clock(elapsed)}  left {clock(left)}",
                flush=True,
            )
        model = PatchResNet()
        model.load_state_dict(self.best_state)
        return model.eval()


def clock(seconds: float) -> str:
    """Format a duration as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


# ---------------------------------------------------------------------------------------- export


def export_model(model: nn.Module, path: Path) -> None:
    """Save a network in evaluation mode with a free batch size.

    The records of where each operation came from in the source, and the example input, are left
    out of the file: they name folders of the machine and double the size.
    """
    example = torch.zeros(4, 3, PATCH_SIZE, PATCH_SIZE)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
    program.example_inputs = None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="partial-") as folder:
        partial = Path(folder) / path.name
        torch.export.save(program, partial)
        os.replace(partial, path)


def load_exported(path: Path) -> nn.Module:
    """Load a saved network."""
    return cast(nn.Module, torch.export.load(path).module())


@torch.no_grad()
def largest_difference(model: nn.Module, exported: nn.Module, patches: Patches) -> float:
    """Return the largest difference of the logits of two networks on batches of 1, 7 and 32."""
    largest = 0.0
    for size in (1, 7, 32):
        inputs = normalise(patches.images[:size] / 255.0).contiguous()
        largest = max(largest, float((model(inputs) - exported(inputs)).abs().max()))
    return largest


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, so that a reader never sees half of it."""
    partial = path.with_name("partial-" + path.name)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def descriptor() -> dict[str, object]:
    """Return the WSInfer-style description of the model."""
    normalisation = {"mean": list(CHANNEL_MEAN), "std": list(CHANNEL_STD)}
    return {
        "spec_version": "1.0",
        "architecture": "patch-resnet-16-32-64",
        "num_classes": len(CLASS_NAMES),
        "class_names": list(CLASS_NAMES),
        "name": "demo-pcam-patch-resnet",
        "patch_size_pixels": PATCH_SIZE,
        "spacing_um_px": SPACING_UM,
        "transform": [
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": normalisation},
        ],
        "lesion_class": CLASS_NAMES[1],
    }


def log_as_csv(log: list[Epoch]) -> str:
    """Return the training log as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("epoch", "train_loss", "valid_loss", "valid_auc"))
    for line in log:
        numbers = (line.train_loss, line.valid_loss, line.valid_auc)
        writer.writerow((line.epoch, *(f"{value:.5f}" for value in numbers)))
    return text.getvalue()


# ------------------------------------------------------------------------------------ model card

CARD = """# Demonstration tumour classifier

A small residual network that tells patches of lymph node tissue with tumour in their centre from
patches without. It exists so that the heatmap program can be tried, tested and timed with a real
trained model. It is a demonstration and **not a medical device**.

## What it is

| | |
|---|---|
| input | RGB patches of 96 x 96 pixels at about 0.972 um per pixel, `float32`, NCHW, scaled to 0..1 and normalised with the mean and standard deviation in `model.json`; any batch size from 1 to {max_batch} |
| output | two logits per patch: `normal`, `tumor` (apply a softmax for probabilities) |
| meaning of `tumor` | at least one tumour pixel in the centre 32 x 32 pixels of the patch |
| network | residual, 16, 32 and 64 channels, convolutions, batch normalisation, ReLU, average pooling, one linear layer on a 3 x 3 grid of averages |
| parameters | {parameters:,} |
| file | `model.pt2`, {size_kb:,.0f} kB (1 kB = 1000 bytes), a program saved by `torch.export.save` with torch {torch_version} |

## Data and licence

PatchCamelyon (PCam), cut from the CAMELYON16 slides; CC0. A balanced sample of the official splits
was used, whose slides are disjoint. The patches are copies saved as JPEG of quality 75, so they
differ slightly from the originals (about five grey levels). There were {groups:,} groups of
byte-identical patches; one of each group was kept and {removed:,} copies were removed.

| split | patches used | normal | tumor | duplicates removed | purpose |
|---|---|---|---|---|---|
| train | {train_count:,} | {train_normal:,} | {train_tumor:,} | {train_duplicates:,} | fitting the weights |
| valid | {valid_count:,} | {valid_normal:,} | {valid_tumor:,} | {valid_duplicates:,} | choosing the epoch, and the figures below |

Please cite:

- B. S. Veeling, J. Linmans, J. Winkens, T. Cohen, M. Welling. Rotation Equivariant CNNs for Digital
  Pathology. MICCAI 2018. arXiv:1806.03962.
- B. Ehteshami Bejnordi et al. Diagnostic Assessment of Deep Learning Algorithms for Detection of
  Lymph Node Metastases in Women With Breast Cancer. JAMA 318(22):2199-2210, 2017.
  doi:10.1001/jama.2017.14585.

## Measured on the validation split

Computed from the saved file `model.pt2`.

| | |
|---|---|
| area under the ROC curve | **{auc:.4f}** |
| accuracy (most probable class) | {accuracy:.4f} |
| cross-entropy | {loss:.4f} |
| epoch chosen | {best_epoch} of {epochs} |
| largest difference of a logit between the saved and the trained network | {difference:.1e} |

The same split chose the epoch (and was looked at while the settings were chosen), so these figures
are somewhat optimistic. No third, untouched split was measured. The figures are per patch: they say
nothing about slides or lesions.

## Training

```
{command}
```

{minutes:.0f} minutes for the training with {threads} CPU thread{plural}, without a GPU. Seed {seed}, batches of {batch}, AdamW, a
one-cycle learning rate with a peak of {learning_rate:g}, weight decay {weight_decay:g}, label smoothing {label_smoothing:g}, dropout
0.3, and an exponential average of the weights (decay {average_decay:g}), which is what is saved.
Augmentation: quarter turns, flips, shifts of up to {shift} pixels, random densities of haematoxylin
and eosin (by up to {stain:.0%}), random brightness. {precision_note} The run repeats exactly for the same seed, number of
threads, processor type and torch version; elsewhere expect small differences.
`training_log.csv` has one line per epoch.

## What it must not be used for

- Diagnosis, patients, screening, triage, or any other clinical decision.
- Any claim about the performance of the heatmap program or of a method on slides.
- Tissue other than sentinel lymph nodes stained with haematoxylin and eosin: it saw nothing else.
  Normal breast tissue, other organs and other tumours give meaningless scores.
- Other scanners, stains and laboratories: untested. The training slides come from two centres.
- Other pixel sizes: resample to 0.972 um per pixel first.

The probabilities are not calibrated. Blurred tissue, folds, pen marks, air bubbles and background
were not studied.
"""  # noqa: E501


@dataclass(frozen=True)
class Measured:
    """What was measured of the finished model."""

    auc: float
    loss: float
    accuracy: float
    difference: float
    parameters: int
    size: int
    minutes: float


def training_command(settings: Settings, threads: int) -> str:
    """Return the command that repeats a run, without the folders of this machine."""
    return (
        f"python scripts/train_demo_model.py --epochs {settings.epochs} --seed {settings.seed} "
        f"--threads {threads} \\\n    --batch {settings.batch} "
        f"--learning-rate {settings.learning_rate:g} --stain {settings.stain:g} "
        f"--precision {settings.precision}"
    )


def model_card(trainer: Trainer, measured: Measured, threads: int) -> str:
    """Return the text of the model card."""
    settings, train, valid = trainer.settings, trainer.train, trainer.valid
    mixed = "The forward pass of the training ran in bfloat16; the saved weights are float32."
    return CARD.format(
        max_batch=MAX_BATCH,
        parameters=measured.parameters,
        size_kb=measured.size / 1000,
        torch_version=torch.__version__.partition("+")[0],
        groups=train.groups + valid.groups,
        removed=train.duplicates + valid.duplicates,
        train_count=len(train),
        train_normal=int((train.labels == 0).sum()),
        train_tumor=int((train.labels == 1).sum()),
        train_duplicates=train.duplicates,
        valid_count=len(valid),
        valid_normal=int((valid.labels == 0).sum()),
        valid_tumor=int((valid.labels == 1).sum()),
        valid_duplicates=valid.duplicates,
        auc=measured.auc,
        accuracy=measured.accuracy,
        loss=measured.loss,
        best_epoch=trainer.best.epoch,
        epochs=settings.epochs,
        difference=measured.difference,
        command=training_command(settings, threads),
        minutes=measured.minutes,
        threads=threads,
        plural="" if threads == 1 else "s",
        seed=settings.seed,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        label_smoothing=settings.label_smoothing,
        average_decay=settings.average_decay,
        shift=LARGEST_SHIFT,
        stain=settings.stain,
        precision_note=mixed if settings.precision == "bfloat16" else "All in float32.",
    )


# ---------------------------------------------------------------------------------- command line


def save_all(trainer: Trainer, model: PatchResNet, out: Path, threads: int, minutes: float) -> None:
    """Write the four files, check the saved network and print what was measured."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.pt2"
    export_model(model, path)
    exported = load_exported(path)
    difference = largest_difference(model, exported, trainer.valid)
    if not difference < EXPORT_TOLERANCE:
        raise RuntimeError(f"the saved network differs from the trained one by {difference:.2e}")
    loss, auc = evaluate(exported, trainer.valid)
    measured = Measured(
        auc=auc,
        loss=loss,
        accuracy=accuracy_at_half(exported, trainer.valid),
        difference=difference,
        parameters=count_parameters(model),
        size=path.stat().st_size,
        minutes=minutes,
    )
    write_text(out / "model.json", json.dumps(descriptor(), indent=2) + "\n")
    write_text(out / "training_log.csv", log_as_csv(trainer.log))
    write_text(out / "MODEL_CARD.md", model_card(trainer, measured, threads))
    print(f"saved {path} ({measured.size:,} bytes, {measured.parameters:,} parameters)")
    print(f"largest difference of the saved network on batches of 1, 7 and 32: {difference:.1e}")
    print(f"epoch chosen {trainer.best.epoch}, validation accuracy {measured.accuracy:.4f}")
    print(f"validation AUC from the saved file: {auc:.4f}")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description="Train the small demonstration tumour classifier on PatchCamelyon patches "
        "and write model.pt2, model.json, MODEL_CARD.md and training_log.csv. "
        "Run it from the root of the repository.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/pcam"), metavar="DIR",
        help="folder with train.tar and valid.tar, whose members are named "
        "{train,valid}/{0,1}/patchNNNNNNN.jpg")  # fmt: skip
    add("--out", type=Path, default=Path("engine/hpc_heatmap/demo_model"), metavar="DIR",
        help="folder for the four files; made if needed, files of these names "
        "are replaced")  # fmt: skip
    add("--epochs", type=int, default=28, metavar="N",
        help="passes over the training patches; the best one is kept")  # fmt: skip
    add("--seed", type=int, default=1, metavar="N",
        help="seed of the first weights, the order of the patches "
        "and the augmentation")  # fmt: skip
    add("--threads", type=int, default=2, metavar="N",
        help="CPU threads of the numerical library")  # fmt: skip
    add("--batch", type=int, default=64, metavar="N", help="patches per training step")
    add("--learning-rate", type=float, default=4e-3, metavar="X",
        help="peak of the one-cycle schedule")  # fmt: skip
    add("--stain", type=float, default=0.25, metavar="X",
        help="largest random change of the density of each stain, relative")  # fmt: skip
    add("--precision", choices=("float32", "bfloat16"), default="float32",
        help="arithmetic of the training's forward pass; bfloat16 is faster on processors "
        "with bfloat16 instructions and slower on others")  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    for name in ("epochs", "threads", "batch"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    for name in ("train.tar", "valid.tar"):
        if not (args.data / name).is_file():
            parser.error(f"{args.data} has no {name}; name its folder with --data")
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    seen: set[bytes] = set()
    train = load_patches(args.data / "train.tar", seen)
    valid = load_patches(args.data / "valid.tar", seen)
    print(
        f"train {len(train)} patches ({train.duplicates} duplicates removed), "
        f"valid {len(valid)} patches ({valid.duplicates} duplicates removed)",
        flush=True,
    )
    settings = Settings(
        args.epochs, args.seed, args.batch, args.learning_rate, args.stain, args.precision
    )
    trainer = Trainer(train, valid, settings)
    print(f"network with {count_parameters(trainer.model):,} parameters", flush=True)
    start = time.monotonic()
    model = trainer.run()
    save_all(trainer, model, args.out, args.threads, (time.monotonic() - start) / 60.0)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
