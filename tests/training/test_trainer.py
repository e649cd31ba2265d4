"""The training loop: it learns, repeats itself to the bit, and goes on where it stopped."""

from __future__ import annotations

import pytest
import torch
from patch_sets import patch_set

from hpc_heatmap.training.settings import NetworkName, TrainingSettings
from hpc_heatmap.training.trainer import Trainer, exact_arithmetic, one_cycle

SETTINGS = TrainingSettings(
    network=NetworkName.PATCH_RESNET, window=32, epochs=3, batch=8, hsv_noise=5, stain_noise=0.1
)


def new_trainer(settings=SETTINGS):
    return Trainer(patch_set(24), patch_set(8, seed=1), settings)


def weights(trainer):
    return {name: value.clone() for name, value in trainer.best_weights.items()}


@pytest.fixture(scope="module")
def trained():
    with exact_arithmetic(1):
        trainer = new_trainer()
        trainer.run()
    return trainer


def test_it_learns(trained):
    assert trained.best.valid_auc > 0.95
    assert trained.log[-1].train_loss < trained.log[0].train_loss
    assert [line.epoch for line in trained.log] == [1, 2, 3]
    assert trained.step == trained.n_steps == 18


def test_the_same_seed_gives_the_same_weights_to_the_bit(trained):
    with exact_arithmetic(1):
        again = new_trainer()
        again.run()
    assert again.log == trained.log
    for name, value in weights(again).items():
        assert torch.equal(value, trained.best_weights[name]), name


def test_another_seed_gives_other_weights(trained):
    with exact_arithmetic(1):
        other = new_trainer(SETTINGS.model_copy(update={"seed": 2}))
        other.run()
    assert other.log[0].train_loss != trained.log[0].train_loss


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("at_step", [4, 6, 13])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(trained, tmp_path, at_step):
    """In the middle of an epoch, at its last step, and with work lost since the checkpoint."""
    file = tmp_path / "state.pt"

    def stop(trainer):
        if trainer.step == at_step:
            torch.save(trainer.state(), file)
        if trainer.step == at_step + 1:
            raise Stopped

    with exact_arithmetic(1):
        with pytest.raises(Stopped):
            new_trainer().run(stop)
        resumed = new_trainer()
        resumed.load_state(torch.load(file, weights_only=True))
        resumed.run()
    assert resumed.log == trained.log
    for name, value in weights(resumed).items():
        assert torch.equal(value, trained.best_weights[name]), name


def test_torch_is_left_as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    with exact_arithmetic(1):
        torch.manual_seed(5)
        torch.rand(3)
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert torch.utils.deterministic.fill_uninitialized_memory == fills
    assert torch.equal(torch.get_rng_state(), state)


def test_the_learning_rate_rises_to_its_peak_and_falls():
    rates = [one_cycle(step / 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[200] == 1
    assert rates[:201] == sorted(rates[:201])
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] < 1e-4


def test_a_training_of_one_step_works():
    settings = SETTINGS.model_copy(update={"epochs": 1, "batch": 64})
    with exact_arithmetic(1):
        trainer = new_trainer(settings)
        trainer.run()
    assert trainer.n_steps == 1
    assert len(trainer.log) == 1
