"""Fixtures of the fault matrix."""

import sys
from pathlib import Path

import pytest
from room import Room, lacks_rights
from traces import Traces

sys.path.append(str(Path(__file__).resolve().parent.parent / "staging"))


@pytest.fixture
def traces(tmp_path):
    """A view on what runs leave behind, in a room of their own where one can be made."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    room = None if lacks_rights() else Room(tmp_path)
    view = Traces(folder, room)
    yield view
    view.end()
    if room:
        room.close()
