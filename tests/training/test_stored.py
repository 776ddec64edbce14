"""A .npz from anywhere: read within bounds, or refused."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from training.stored import MAX_DIMENSIONS, MAX_FILE_BYTES, MAX_MEMBERS, NotStored, stored_arrays


def member(array, *, shape=None, descr=None):
    """Return the bytes of one .npy, its header telling another shape or type where given."""
    header = {"descr": descr or array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    file = io.BytesIO()
    npy.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


def archive(path, members, *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def read_all(path):
    with stored_arrays(path) as stored:
        return {name: stored.read(name) for name in stored.shapes}


def test_arrays_come_back_as_numpy_wrote_them(tmp_path):
    arrays = {
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "one": np.float32(4.0),
        "none": np.zeros((0, 3), "f4"),
    }
    arrays["columns"] = np.asfortranarray(arrays["rows"])
    np.savez_compressed(tmp_path / "a.npz", **arrays)

    back = read_all(tmp_path / "a.npz")

    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_a_shape_is_known_before_its_array_takes_memory(tmp_path):
    path = archive(tmp_path / "a.npz", [("x.npy", member(np.zeros(1, "f4"), shape=(1 << 40, 1 << 20)))])

    with stored_arrays(path) as stored:
        assert stored.shapes == {"x": (1 << 40, 1 << 20)}


@pytest.mark.parametrize("values", [3, 5])
def test_an_array_of_less_or_more_than_its_shape_is_refused(tmp_path, values):
    path = archive(tmp_path / "a.npz", [("x.npy", member(np.zeros(values, "f4"), shape=(4,)))])

    with pytest.raises(NotStored, match="does not hold the 16 bytes"):
        read_all(path)


def test_what_unpacks_to_a_thousand_times_its_size_is_read_no_further_than_its_shape(tmp_path):
    content = member(np.zeros(1 << 22, "f4"), shape=(4,))
    path = archive(tmp_path / "a.npz", [("x.npy", content)], compression=zipfile.ZIP_DEFLATED)

    with pytest.raises(NotStored, match="does not hold"):
        read_all(path)


@pytest.mark.parametrize("dtype", ["<f8", "<i4", "|O", ">f4", "|S4"])
def test_only_float32_is_read(tmp_path, dtype):
    path = archive(tmp_path / "a.npz", [("x.npy", member(np.zeros(4, "f4"), descr=dtype))])

    with pytest.raises(NotStored, match="wanted float32"):
        read_all(path)


def test_no_pickle_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    content = member(np.zeros(0, "f4"), shape=(1,), descr="|O") + pickle.dumps([Trap()])

    with pytest.raises(NotStored):
        read_all(archive(tmp_path / "a.npz", [("x.npy", content)]))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "members",
    [
        [("x.npy", b"")],
        [("x.npy", b"\x93NUMPY\x01\x00\xff\xff{")],
        [("x.npy", b"\x93NUMPY\x09\x00")],
        [("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': exit()}\n")],
        [("x.npy", member(np.zeros(1, "f4"), shape=(1,) * (MAX_DIMENSIONS + 1)))],
        [("x.npy", member(np.zeros(1, "f4"), shape=(-1, -1)))],
        [("readme.txt", b"hello")],
        [(f"{number}.npy", member(np.zeros(1, "f4"))) for number in range(MAX_MEMBERS + 1)],
    ],
    ids=["empty", "torn header", "unknown version", "code", "dimensions", "negative", "no array", "many"],
)
def test_what_is_no_array_is_refused(tmp_path, members):
    with pytest.raises(NotStored):
        read_all(archive(tmp_path / "a.npz", members))


def test_one_name_twice_is_refused(tmp_path):
    content = member(np.zeros(1, "f4"))
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "a.npz", [("x.npy", content), ("x.npy", content)])

    with pytest.raises(NotStored, match="twice"):
        read_all(path)


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_archive_is_refused(tmp_path, cut):
    np.savez(tmp_path / "a.npz", x=np.zeros(100, "f4"))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-cut])

    with pytest.raises(NotStored):
        read_all(tmp_path / "a.npz")


@pytest.mark.parametrize("place", range(40, 460, 20))
def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path, place):
    """Some bytes of a zip are read by nobody; all others are checked."""
    values = np.random.default_rng(0).random(100, np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=values)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)

    try:
        read = read_all(tmp_path / "a.npz")
    except NotStored:
        return
    assert np.array_equal(read["x"], values)


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    with pytest.raises(NotStored, match="at most"):
        read_all(tmp_path / "a.npz")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")

    with pytest.raises(OSError, match="regular"):
        read_all(tmp_path / "a.npz")
