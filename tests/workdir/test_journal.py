"""metrics.jsonl goes on where the checkpoint does."""

import json

import pytest

from ssl_jax.errors import UserError
from ssl_jax.workdir.journal import Journal


def test_journal_is_cut_back_to_the_restored_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"phase": p, "step": s} for p in ("one", "two") for s in (2, 4, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with path.open("a") as file:
        file.write('{"phase": "two", "st')  # the process was killed here
    journal = Journal(path)
    assert journal.rows() == rows
    assert journal.resume("two", 4) == rows[3:5]
    journal.write({"phase": "two", "step": 5})
    journal.sync()
    journal.close()
    assert Journal(path).rows() == [*rows[:5], {"phase": "two", "step": 5}]


def test_journal_that_is_not_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"phase"\n{"phase": "one", "step": 1}\n')
    with pytest.raises(UserError, match="not JSON"):
        Journal(path).rows()
