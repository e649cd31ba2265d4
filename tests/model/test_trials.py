"""How fast ways are is tried shortly, and ways that cannot win are not tried."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_heatmap.execution import Execution
from hpc_heatmap.model import trials
from hpc_heatmap.model.trials import Speeds

WINDOW, STRIDE = 224, 16
SIDE = WINDOW // STRIDE
SHARED = Execution(backend="program", cut="s9", stride_px=STRIDE, share=True)
ALONE = Execution(backend="program", stride_px=STRIDE, share=True)


class Clock:
    """Processor time that passes where it is told to."""

    now = 0.0

    def process_time(self) -> float:
        return self.now


class Classifier:
    """Takes so long for shared layers, for a window behind them, and for one by itself."""

    window_px = WINDOW

    def __init__(self, clock: Clock, shared_s: float, rest_s: float, alone_s: float) -> None:
        self._clock, self._took = clock, (shared_s, rest_s, alone_s)

    def prepare(self, patch):
        return patch

    def cut(self, prepared, top, left):
        return prepared[top : top + WINDOW, left : left + WINDOW]

    def scores(self, windows):
        self._clock.now += self._took[2] * len(windows)

    def shared_scores(self, prepared, tops, lefts, stride_px, batch_size):
        self._clock.now += self._took[0] * len(tops) / SIDE
        rows = max(1, batch_size // len(lefts))
        for first in range(0, len(tops), rows):
            self._clock.now += self._took[1] * len(lefts) * len(tops[first : first + rows])
            yield None


@pytest.fixture
def tried(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(trials, "time", clock)

    def speeds(ways: dict[str, tuple[Execution, float, float]], shared_s: float) -> dict:
        made = {id(way): Classifier(clock, shared_s, *took) for way, *took in ways.values()}
        patch = np.zeros((2 * WINDOW, 2 * WINDOW, 3), np.uint8)
        found = Speeds(lambda way: made[id(way)], patch, STRIDE, 32)
        return found.windows_per_s({name: way for name, (way, *_) in ways.items()})

    return speeds


def test_a_few_batches_say_what_all_windows_would_take(tried):
    fast = SHARED.model_copy(update={"runtime": "openvino"})
    ways = {
        "torch": (SHARED, 0.010, 0.0),
        "OpenVINO": (fast, 0.005, 0.0),
        "torch window by window": (ALONE, 0.0, 0.030),
    }
    found = tried(ways, shared_s=1.0)
    assert found["torch"] == pytest.approx(1 / (1.0 / SIDE**2 + 0.010))
    assert found["OpenVINO"] == pytest.approx(1 / (1.0 / SIDE**2 + 0.005))
    assert found["torch window by window"] == pytest.approx(1 / 0.030)


@pytest.mark.parametrize(("rest_s", "is_tried"), [(0.008, False), (0.001, True)])
def test_windows_alone_are_tried_where_they_might_win(tried, rest_s, is_tried):
    fast = {"runtime": "openvino"}
    ways = {
        "torch": (SHARED, 0.010, 0.0),
        "OpenVINO": (SHARED.model_copy(update=fast), rest_s, 0.0),
        "torch window by window": (ALONE, 0.0, 0.040),
        "OpenVINO window by window": (ALONE.model_copy(update=fast), 0.0, 0.030),
    }
    assert ("OpenVINO window by window" in tried(ways, shared_s=1.0)) is is_tried
