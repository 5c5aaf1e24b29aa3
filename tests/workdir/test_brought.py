"""Phases that a run has from another's workdir."""

import json

import pytest

from ssl_jax.errors import UserError
from ssl_jax.workdir import brought, inventory, lock, settings
from ssl_jax.workdir.inventory import Inventory
from ssl_jax.workdir.workdir import LABELS, Workdir

CONFIG = {"name": "part", "phases": ["a", "b", "c"], "data": {"labels": "gone.csv"}}
DATA = Inventory("folder", "1", ("cat", "dog"), (8, 8, 1), {}, 2)
ROWS = [{"phase": phase, "step": step} for phase in "ab" for step in (1, 2)]


@pytest.fixture
def whole(tmp_path):
    """Of which a and b are over."""
    workdir = Workdir(tmp_path / "whole")
    for name in "ab":
        workdir.phase(name).finish({"steps": 2})
        workdir.phase(name).checkpoints.mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    (workdir.path / "metrics.jsonl").write_text(rows)
    inventory.write(workdir.path / inventory.FILE, DATA)
    (workdir.path / LABELS).write_text("answers")
    saved = json.dumps({"config": {"other": 1}, "data": "1", "resumed": 3})
    (workdir.path / settings.CONFIG).write_text(saved)
    return workdir


@pytest.fixture
def part(tmp_path):
    return Workdir(tmp_path / "new" / "part")


def test_they_come_with_their_rows_and_what_is_known_of_the_data(whole, part):
    brought.bring(["a", "b"], whole, part, CONFIG)
    assert part.phase("a").done == part.phase("b").done == {"steps": 2}
    assert part.phase("b").checkpoints.exists() and part.journal.rows() == ROWS
    assert part.config == CONFIG and (part.path / LABELS).read_text() == "answers"
    assert part.changes(DATA, accepted=False) == []
    with pytest.raises(UserError, match="is not as it was when workdir .*part began"):
        part.changes(DATA._replace(digest="2", num_test=3), accepted=False)
    with Workdir.open(part.path, CONFIG) as entered:
        assert entered.resumed == 0  # as if it had trained them itself


def test_what_a_kill_left_of_them_is_mended(whole, part):
    part.path.mkdir(parents=True)
    # Settings that bind nobody, rows of a phase that was then to come, and its half.
    (part.path / settings.CONFIG).write_text('{"config": {"phases": []}}')
    brought.bring(["a"], whole, part, CONFIG)
    assert part.config == CONFIG
    part.journal.take("b", ROWS)
    (part.path / "b.tmp" / "half").mkdir(parents=True)
    brought.bring(["a", "b"], whole, part, CONFIG)
    assert part.journal.rows() == ROWS and part.phase("b").done == {"steps": 2}
    assert not (part.path / "b.tmp").exists()
    assert not (part.phase("b").path / "half").exists()


def test_a_run_that_trains_them_itself_gets_none(whole, part):
    part.phase("a").path.mkdir(parents=True)  # by an older version
    brought.bring(["a", "b"], whole, part, CONFIG)
    assert not part.phase("b").path.exists() and part.config is None


def test_another_process_is_kept_out(whole, part):
    part.path.mkdir(parents=True)
    with lock.held(part.path):
        with pytest.raises(UserError, match="another process is training in workdir"):
            brought.bring(["a"], whole, part, CONFIG)
    assert not part.phase("a").path.exists()
