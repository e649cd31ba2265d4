"""Chunks that HDF5 is given as they are to be stored."""

from __future__ import annotations

import os
import zlib

import h5py
import numpy as np
import pytest

from hpc_heatmap.formats import hdf5
from hpc_heatmap.formats.hdf5 import (
    COMPRESSED,
    open_for_reading,
    open_for_writing,
    write_chunk,
)

CHUNK = (64, 48)
NOISE = np.random.default_rng(0).random(CHUNK, np.float32)
HALF = np.where(np.arange(CHUNK[1]) < 24, NOISE, np.float32(np.nan))


@pytest.mark.parametrize(
    ("values", "mask", "largest"),
    [
        (NOISE, 0b11, NOISE.nbytes),
        (NOISE[:60, :44], 0b11, NOISE.nbytes),
        (HALF, 0, 0.6 * HALF.nbytes),
        (HALF[:5, :30], 0, 0.6 * HALF.nbytes),
        (np.full(CHUNK, 0.25, np.float32), 0, 200),
    ],
)
def test_chunks_come_back_and_are_compressed_where_it_pays(tmp_path, values, mask, largest):
    path = tmp_path / "a.h5"
    with open_for_writing(path, "chunks", 1) as file:
        data = file.create_dataset(
            "d", (100, 130), np.float32, chunks=CHUNK, fillvalue=np.nan, **COMPRESSED
        )
        write_chunk(data, (64, 96), values[:36, :34])
        write_chunk(data, (0, 48), values)
    expected = np.full((100, 130), np.nan, np.float32)
    expected[64:, 96:][: len(values), : values.shape[1]] = values[:36, :34]
    expected[: values.shape[0], 48 : 48 + values.shape[1]] = values
    with open_for_reading(path, "chunks", 1) as file:
        np.testing.assert_array_equal(file["d"][:], expected)
        chunk = file["d"].id.get_chunk_info_by_coord((0, 48))
    assert chunk.filter_mask == mask
    assert chunk.size <= largest


def test_what_is_compressed_is_what_hdf5_itself_would_read_and_write(tmp_path):
    """The bytes of a chunk are those that HDF5's own filters give."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"chunks": CHUNK, "fillvalue": np.nan, **COMPRESSED}
        ours, theirs = (file.create_dataset(n, CHUNK, np.float32, **options) for n in "ab")
        write_chunk(ours, (0, 0), HALF)
        theirs[:] = HALF
        file.flush()
        a, b = (d.id.read_direct_chunk((0, 0)) for d in (ours, theirs))
    assert a[0] == b[0] == 0
    assert zlib.decompress(a[1]) == zlib.decompress(b[1])


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no such advice")
def test_the_disk_begins_before_the_end_and_nothing_is_lost(tmp_path, monkeypatch):
    told, tell = [], os.posix_fadvise

    def advise(descriptor, begin, n_bytes, advice):
        told.append((begin, begin + n_bytes))
        tell(descriptor, begin, n_bytes, advice)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(hdf5, "_BEGIN_BYTES", 4 * NOISE.nbytes)
    path = tmp_path / "a.h5"
    with open_for_writing(path, "chunks", 1) as file:
        data = file.create_dataset("d", (64 * 40, 48), np.float32, chunks=CHUNK, **COMPRESSED)
        for row in range(0, len(data), 64):
            write_chunk(data, (row, 0), NOISE + row)
        assert len(told) >= 9
    assert all(begin < end <= path.stat().st_size for begin, end in told)
    with open_for_reading(path, "chunks", 1) as file:
        found = file["d"][:].reshape(40, *CHUNK)
    assert (found == NOISE + 64 * np.arange(40, dtype=np.float32)[:, None, None]).all()
