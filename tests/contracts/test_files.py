"""What is opened, and what is refused without waiting for it."""

import os
import socket

import pytest

from contracts.files import open_regular
from tests.descriptors import descriptors


def test_a_file_is_read_as_it_is_and_also_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"\x00text\r\n")
    (tmp_path / "link").symlink_to("file")

    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"\x00text\r\n"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("fifo", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("socket", "No such device or address"),
        (".", "Is a directory"),
        ("nowhere", "No such file or directory"),
        ("a\0b", "no name of a file"),
        ("\ud800", "no name of a file"),
        ("x" * 5_000, "File name too long"),
    ],
    ids=["pipe", "device", "socket", "folder", "missing", "nul", "surrogate", "long"],
)
def test_anything_else_is_refused_at_once_with_a_reason(tmp_path, monkeypatch, name, complaint):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        before = descriptors()

        with pytest.raises(OSError, match=complaint) as caught:
            open_regular(name)

        assert caught.value.strerror == complaint
        assert descriptors() - before == set()
