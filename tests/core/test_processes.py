"""What processes tell each other; tests/whole/test_two_processes.py has two."""

import pytest

from ssl_jax.core import processes
from ssl_jax.errors import UserError


def test_a_process_alone_is_the_first_and_asks_nobody():
    value = object()
    assert processes.is_first() and processes.count() == 1
    assert processes.of_first(lambda: value) is value

    def refused():
        raise UserError("why")

    with pytest.raises(UserError, match="^why$"):
        processes.of_first(refused)
    asked = []
    with processes.agreed(lambda: bool(asked)) as stops:
        assert not stops()
        asked.append(1)
        assert stops()
