"""Keeps the temporary outboxes of these tests in their own folders, and gives every end the time it takes.

An agent that ends waits a second or two for a broker or a disk and then leaves them alone. On a machine that is busy
with other things that may be too short for one that is well; a test that wants one left alone says so.
"""

import tempfile

import pytest

from agent.delivery import behind, committer, queued, sender


@pytest.fixture(autouse=True)
def own_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(autouse=True)
def time_to_end(monkeypatch):
    monkeypatch.setattr(committer, "END_S", 120.0)
    monkeypatch.setattr(sender, "FAREWELL_S", 120.0)
    monkeypatch.setattr(sender.Sender.stop, "__defaults__", (120.0,))
    monkeypatch.setattr(queued, "CLOSE_S", 120.0)
    monkeypatch.setattr(behind, "CLOSE_S", 120.0)
