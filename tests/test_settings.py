"""Settings: written once, the same after a trip through JSON, refused where out of range."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.settings import (
    Cluster,
    GroupLayout,
    LaunchSettings,
    LesionMethod,
    RunSettings,
    StainMethod,
    StainPer,
    settings_error,
)

positive = st.floats(min_value=1e-6, max_value=1e6)
counts = st.integers(min_value=1, max_value=10**6)
run_settings = st.builds(
    RunSettings,
    stride=st.none() | counts,
    spacing=st.none() | positive,
    requested_spacing=st.none() | positive,
    lesion_class=st.none() | st.text(),
    tissue_method=st.sampled_from(["otsu-hs", "otsu-s", "all"]),
    min_tissue_fraction=st.floats(min_value=0, max_value=1),
    patches_per_group=st.none() | counts,
    group_memory=st.none() | positive,
    group_layout=st.sampled_from(GroupLayout),
    stain=st.sampled_from(StainMethod),
    stain_target=st.none() | st.just(Path("target.png")),
    stain_per=st.sampled_from(StainPer),
    batch_size=counts,
    threshold=st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True),
    lesion_method=st.sampled_from(LesionMethod),
    nms_threshold=st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True),
)
launch_settings = st.builds(
    LaunchSettings,
    workers=st.none() | counts,
    task_minutes=positive,
    retries=st.integers(min_value=0, max_value=100),
)


@given(run_settings | launch_settings)
def test_settings_are_the_same_after_a_trip_through_json(
    settings: RunSettings | LaunchSettings,
) -> None:
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    values = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert type(settings)(**values) == settings


@given(memory_mib=positive, patch_bytes=st.integers(min_value=1, max_value=10**9))
def test_patches_per_group_is_memory_over_patch_size_rounded_down(
    memory_mib: float, patch_bytes: int
) -> None:
    settings = RunSettings(group_memory=memory_mib)
    expected = math.floor(memory_mib * 2**20 / patch_bytes)
    if expected < 1:
        with pytest.raises(SettingsError, match="holds no patch"):
            settings.n_p(patch_bytes)
        return
    n_p = settings.n_p(patch_bytes)
    assert n_p == expected
    assert n_p * patch_bytes <= memory_mib * 2**20 < (n_p + 1) * patch_bytes


def test_patches_per_group_of_the_paper() -> None:
    # 448 x 448 x 3 bytes are 0.574 MiB: 64 of them fit into 37 MiB.
    patch = 448 * 448 * 3
    assert RunSettings().n_p(patch) == 64
    assert RunSettings(group_memory=37).n_p(patch) == 64
    assert RunSettings(group_memory=36).n_p(patch) == 62
    assert RunSettings(patches_per_group=7, group_memory=36).n_p(patch) == 7
    assert RunSettings(group_memory=patch / 2**20).n_p(patch) == 1


@pytest.mark.parametrize(
    ("n_patches", "n_p"), [(0, 1), (16, 1), (17, 2), (340, 22), (1008, 63), (1024, 64), (9000, 64)]
)
def test_groups_of_a_small_slide_are_small(n_patches: int, n_p: int) -> None:
    patch = 448 * 448 * 3
    assert RunSettings().n_p(patch, n_patches) == n_p
    assert RunSettings(adaptive=True).n_p(patch, n_patches) == 64
    assert RunSettings(group_memory=37).n_p(patch, n_patches) == 64
    assert RunSettings(patches_per_group=70).n_p(patch, n_patches) == 70


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (RunSettings, "stride", 0),
        (RunSettings, "stride", -4),
        (RunSettings, "stride", 1.5),
        (RunSettings, "spacing", 0),
        (RunSettings, "spacing", float("nan")),
        (RunSettings, "spacing", float("inf")),
        (RunSettings, "requested_spacing", -1),
        (RunSettings, "requested_spacing", float("inf")),
        (RunSettings, "min_tissue_fraction", 1.1),
        (RunSettings, "min_tissue_fraction", float("nan")),
        (RunSettings, "patches_per_group", 0),
        (RunSettings, "group_memory", 0),
        (RunSettings, "group_memory", float("inf")),
        (RunSettings, "group_layout", "stripes"),
        (RunSettings, "stain", "pink"),
        (RunSettings, "stain_per", "cell"),
        (RunSettings, "batch_size", 0),
        (RunSettings, "threshold", 0),
        (RunSettings, "threshold", 1),
        (RunSettings, "threshold", float("nan")),
        (RunSettings, "lesion_method", "eyes"),
        (RunSettings, "nms_threshold", 1),
        (RunSettings, "colour", "red"),
        (LaunchSettings, "workers", 0),
        (LaunchSettings, "task_minutes", float("inf")),
        (LaunchSettings, "retries", -1),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_options_name(
    kind: type[RunSettings | LaunchSettings], name: str, value: object
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind(**{name: value})
    sentence = str(settings_error(caught.value))
    assert sentence.startswith("These settings cannot be used: ")
    assert f"--{name.replace('_', '-')} {value}: " in sentence
    assert "\n" not in sentence


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        RunSettings().stride = 5  # type: ignore[misc]


def test_a_launch_goes_on_as_the_last_one_but_for_what_is_given() -> None:
    last = LaunchSettings(cluster=Cluster.SLURM, profile=Path("site.toml"), retries=5)
    assert LaunchSettings().over(last) == last
    assert LaunchSettings(workers=3).over(last) == last.model_copy(update={"workers": 3})
    here = LaunchSettings(cluster=Cluster.LOCAL).over(last)
    assert here.is_local and here.retries == 5
    other = LaunchSettings(profile=Path("other.toml")).over(last)
    assert other.profile == Path("other.toml") and other.cluster is Cluster.LOCAL
    assert not other.is_local
