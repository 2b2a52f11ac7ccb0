"""Some hundred spoilt files; `make fuzz` tries 10,000 of each kind."""

import pytest

from tests.chaos.fuzz import ERROR, KINDS, RIGHT, fuzz

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_input_is_refused_or_read_right(kind: str) -> None:
    ended = fuzz(kind, range(300))
    assert ended[ERROR] > 100
    assert ended[ERROR] + ended[RIGHT] == 300
