"""Keeps the temporary outboxes of these tests in their own folders."""

import tempfile

import pytest


@pytest.fixture(autouse=True)
def own_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
