"""Patches from folders and tar files, and one sentence for each that cannot be used."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from patch_sets import patch_set, write_patches
from PIL import Image
from reference import reference

from hpc_heatmap.errors import TrainingError
from hpc_heatmap.training.patch_files import find_patch_files, read_patch_files
from hpc_heatmap.training.patches import join, split_by_patch


def test_a_folder_and_a_tar_file_give_the_same(tmp_path):
    folder = write_patches(tmp_path / "set", 4)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_bytes(b"no image")
    (folder / "readme.txt").write_text("no image")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(folder / "tumor", "any/1")
        archive.add(folder / "normal", "any/0")
    first, second = read_patch_files(folder, set()), read_patch_files(tmp_path / "set.tar", set())
    assert first.counts == second.counts == (4, 4)
    assert first.sha256() == second.sha256()
    assert {image.tobytes() for image in first.images} == {
        image.tobytes() for image in patch_set(4).images
    }
    for image, label in zip(first.images, first.labels, strict=True):
        assert label == (image.mean() < 160)


def test_copies_are_left_out_also_between_splits(tmp_path):
    folder = write_patches(tmp_path / "a", 3)
    (folder / "tumor" / "copy.png").write_bytes((folder / "tumor" / "001.png").read_bytes())
    other = write_patches(tmp_path / "b", 3, seed=1)
    (other / "tumor" / "copy.png").write_bytes((folder / "tumor" / "001.png").read_bytes())
    seen: set[bytes] = set()
    first, second = read_patch_files(folder, seen), read_patch_files(other, seen)
    assert (len(first), first.n_copies) == (6, 1)
    assert (len(second), second.n_copies) == (6, 1)
    assert join([first, second]).n_copies == 2


def test_splits_are_found(tmp_path):
    write_patches(tmp_path / "training", 2)
    (tmp_path / "val.tar.gz").touch()
    found = find_patch_files(tmp_path)
    assert (found.train.name, found.valid.name) == ("training", "val.tar.gz")
    assert find_patch_files(tmp_path / "training").valid is None


@pytest.mark.slow
def test_pcam_holds_what_its_readme_says():
    patches = read_patch_files(reference("pcam/valid.tar"), set())
    assert patches.counts == (1500, 1407)
    assert patches.images.shape == (2907, 96, 96, 3)


def test_colours_are_those_of_numpy():
    images = patch_set(5).images
    mean, std = patch_set(5).colour_statistics()
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)) / 255, atol=6e-4)
    np.testing.assert_allclose(std, images.std(axis=(0, 1, 2)) / 255, atol=6e-4)


def test_holding_out_keeps_the_classes_apart():
    patches = patch_set(20)
    train, valid = split_by_patch(patches, 0.2, seed=1)
    assert (train.counts, valid.counts) == ((16, 16), (4, 4))
    everything = {image.tobytes() for image in patches.images}
    assert {image.tobytes() for image in np.concatenate([train.images, valid.images])} == everything
    assert split_by_patch(patches, 0.2, seed=2)[1].sha256() != valid.sha256()


def unknown_class(folder):
    write_patches(folder, 2)
    (folder / "tumor").rename(folder / "stroma")


def no_image(folder):
    write_patches(folder, 2)
    (folder / "tumor" / "001.png").write_bytes(b"this is text")


def half_an_image(folder):
    write_patches(folder, 2)
    path = folder / "tumor" / "001.png"
    path.write_bytes(path.read_bytes()[:200])


def two_sizes(folder):
    write_patches(folder, 2)
    Image.new("RGB", (50, 50)).save(folder / "tumor" / "zzz.png")


def not_square(folder):
    (folder / "normal").mkdir(parents=True)
    Image.new("RGB", (50, 40)).save(folder / "normal" / "a.png")


def nothing(folder):
    folder.mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (unknown_class, "folder of no known class"),
        (no_image, "is not an image that can be read"),
        (half_an_image, "is not an image that can be read"),
        (two_sizes, "patches must be of one size"),
        (not_square, "must be square, not 50 x 40 px"),
        (nothing, "holds no patches"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, make, words):
    make(tmp_path / "set")
    with pytest.raises(TrainingError, match=words) as refused:
        read_patch_files(tmp_path / "set", set())
    assert str(tmp_path / "set") in str(refused.value)


def test_a_damaged_tar_file_and_a_path_that_is_nothing(tmp_path):
    damaged = tmp_path / "set.tar"
    damaged.write_bytes(b"no archive" * 100)
    with pytest.raises(TrainingError, match="cannot be read as a tar file"):
        read_patch_files(damaged, set())
    for path in (tmp_path / "absent", tmp_path / "set.zip"):
        with pytest.raises(TrainingError, match="neither a folder of patches nor a tar file"):
            find_patch_files(path)
