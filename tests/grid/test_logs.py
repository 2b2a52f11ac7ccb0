"""The driver's log beside the session."""

import logging

import pytest

from grid.logs import kept
from storage.errors import StorageError
from storage.sessions import SessionFolder
from tests.grid.faulty import FAILS, FaultyProvider


def test_what_could_not_be_written_is_written_once_the_store_is_back():
    provider = FaultyProvider()
    with kept(SessionFolder(provider, "s1")) as keeper:
        logging.getLogger("grid").warning("begun")
        provider.script["write"].append(FAILS)
        with pytest.raises(StorageError):
            keeper.store()
        keeper.store()  # the store is back, and there is no further line
        assert b"begun" in provider.read("s1/driver.log")
