"""The training loop: equal patches, settings and threads give equal weights, resumed or not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from hpc_heatmap.evaluation.auc import auc
from hpc_heatmap.training.augmentation import Augmenter, centre_windows
from hpc_heatmap.training.networks import build_network
from hpc_heatmap.training.patches import Patches
from hpc_heatmap.training.settings import Precision, TrainingSettings

__all__ = ["Colours", "Epoch", "Trainer", "exact_arithmetic", "logits_of"]

_EVALUATION_BATCH = 125
#: The learning rate rises from a share of its peak in the first part of the steps, then falls.
_START, _RISE, _END = 1 / 25, 0.2, 1 / 25_000


@dataclass(frozen=True)
class Epoch:
    """One line of the training log; validation is of the averaged weights."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_auc: float


@dataclass(frozen=True)
class Colours:
    """Mean and standard deviation of red, green and blue that the network's input is freed of."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, windows: Any) -> Any:
        """NCHW batch, channels last in memory, of NHWC windows from 0 to 1."""
        return ((windows - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(0, 3, 1, 2)


@contextmanager
def exact_arithmetic(threads: int) -> Iterator[None]:
    """Deterministic algorithms and a fixed number of threads; torch is left as it was."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fills, n_threads = torch.utils.deterministic.fill_uninitialized_memory, torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory that was not written; filling it takes a tenth of the time.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.utils.deterministic.fill_uninitialized_memory = fills
            torch.set_num_threads(n_threads)


def logits_of(network: Any, patches: Patches, window_px: int, colours: Colours) -> Any:
    """Logits (n, classes) of the middle windows of patches."""
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(patches.images), _EVALUATION_BATCH)
        return torch.cat(
            [network(colours.normalise(centre_windows(part, window_px))) for part in parts]
        )


def tumour_scores(logits: Any) -> npt.NDArray[np.float64]:
    """A score a patch that orders them as the probability of tumour does."""
    scores: npt.NDArray[np.float64] = (logits[:, 1] - logits[:, 0]).double().numpy()
    return scores


class Trainer:
    """Train a network and keep the averaged weights of the epoch with the best validation AUC.

    Its whole state is in :meth:`state`, also in the middle of an epoch. Use it inside
    :func:`exact_arithmetic`.

    Parameters
    ----------
    train, valid
        Patches of the two splits.
    settings
        What is trained and how.
    """

    def __init__(self, train: Patches, valid: Patches, settings: TrainingSettings) -> None:
        self.settings, self.valid = settings, valid
        self.images = torch.from_numpy(train.images)
        self.labels = torch.from_numpy(train.labels)
        self.valid_labels = torch.from_numpy(valid.labels)
        self.colours = Colours(*train.colour_statistics())
        self.batch = min(settings.batch, len(train))
        self.steps_per_epoch = len(train) // self.batch
        torch.manual_seed(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.augment = Augmenter(settings, self.generator)
        self.network = build_network(settings.network).to(memory_format=torch.channels_last)
        self.average = build_network(settings.network).eval()
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = _optimizer(self.network, settings)
        self.step = 0
        self.losses: list[float] = []
        self.log: list[Epoch] = []
        self.best_weights: dict[str, Any] = {}
        self.seconds = 0.0

    @property
    def n_steps(self) -> int:
        """Steps of the whole training."""
        return self.settings.epochs * self.steps_per_epoch

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights are kept: the highest AUC, of equal ones the lowest loss."""
        return max(self.log, key=lambda line: (line.valid_auc, -line.valid_loss), default=None)

    def run(
        self,
        on_step: Callable[[Trainer], None] = lambda trainer: None,
        on_epoch: Callable[[Epoch], None] = lambda line: None,
    ) -> None:
        """Train from where the state is to the end."""
        while len(self.log) < self.settings.epochs:
            order = self._order(len(self.log))
            while len(self.losses) < self.steps_per_epoch:
                begin = time.monotonic()
                first = len(self.losses) * self.batch
                self.losses.append(self._train(order[first : first + self.batch]))
                self.step += 1
                self.seconds += time.monotonic() - begin
                on_step(self)
            begin = time.monotonic()
            self._finish_epoch()
            self.seconds += time.monotonic() - begin
            on_epoch(self.log[-1])

    def _order(self, epoch: int) -> Any:
        """Random order of the patches: a function of seed and epoch, so a resume knows it."""
        random = np.random.default_rng((self.settings.seed, epoch))
        return torch.from_numpy(random.permutation(len(self.labels)))

    def _train(self, index: Any) -> float:
        """One step on some patches; gives its loss."""
        self.network.train()
        inputs = self.colours.normalise(self.augment(self.images[index]))
        low = self.settings.precision is Precision.BFLOAT16
        with torch.autocast("cpu", dtype=torch.bfloat16) if low else nullcontext():
            logits = self.network(inputs)
        loss = functional.cross_entropy(
            logits.float(), self.labels[index], label_smoothing=self.settings.label_smoothing
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * one_cycle(self.step / self.n_steps)
        self.optimizer.step()
        self._move_average()
        return float(loss.detach())

    def _move_average(self) -> None:
        """Move the average towards the weights and batch statistics, faster in the first steps."""
        step = self.step + 1
        share = 1 - min(self.settings.average_decay, (1 + step) / (10 + step))
        current = self.network.state_dict()
        with torch.no_grad():
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(current[name], share)
                else:
                    value.copy_(current[name])

    def _finish_epoch(self) -> None:
        logits = logits_of(self.average, self.valid, self.settings.window, self.colours)
        valid_loss = float(functional.cross_entropy(logits, self.valid_labels))
        area = auc(self.valid.labels, tumour_scores(logits)).auc
        train_loss = math.fsum(self.losses) / len(self.losses)
        self.log.append(Epoch(len(self.log) + 1, train_loss, valid_loss, area))
        if self.best is self.log[-1]:
            weights = self.average.state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}
        self.losses = []

    def best_network(self) -> Any:
        """The network that is kept, ready to score."""
        network = build_network(self.settings.network)
        network.load_state_dict(self.best_weights)
        return network.eval()

    def state(self) -> dict[str, Any]:
        """All that a resume needs: tensors, numbers and strings alone."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "step": self.step,
            "losses": self.losses,
            "log": [asdict(line) for line in self.log],
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_generator"])
        self.step, self.losses = state["step"], list(state["losses"])
        self.log = [Epoch(**line) for line in state["log"]]
        self.seconds = state["seconds"]


def one_cycle(part: float) -> float:
    """Share of the peak learning rate after a part of all steps: up, then down, by cosines."""
    if part < _RISE:
        return _START + (1 - _START) * (1 - math.cos(math.pi * part / _RISE)) / 2
    return _END + (1 - _END) * (1 + math.cos(math.pi * (part - _RISE) / (1 - _RISE))) / 2


def _optimizer(network: Any, settings: TrainingSettings) -> Any:
    """AdamW that decays kernels and matrices but not offsets and norms."""
    decayed = [values for values in network.parameters() if values.ndim > 1]
    plain = [values for values in network.parameters() if values.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)
