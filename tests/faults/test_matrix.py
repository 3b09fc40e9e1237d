"""Four kills of the crash matrix; ``make test-faults`` injects sixty."""

import pytest

from tests.faults.matrix import matrix


@pytest.mark.slow
def test_four_kills_change_nothing():
    table = matrix(4)
    assert table.injected.total() >= 4 and table.survived == table.injected, str(table)
    assert table.rows_lost == 0 and not table.faults, str(table)
