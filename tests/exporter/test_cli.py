"""penstock-export: one clear line where it cannot."""

from __future__ import annotations

import pytest

from exporter import cli


def test_a_folder_that_is_no_checkpoint_is_one_plain_line(capsys):
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    assert cli.main(["pack", "/nowhere/\x1b[31m\n", "--release", "1"]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("penstock-export: ")
    assert said.err.count("\n") == 1
    assert "\x1b" not in said.err
