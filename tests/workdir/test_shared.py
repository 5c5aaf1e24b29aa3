"""A follower's folder says of a run what process 0's says;
tests/whole/test_two_processes.py has both."""

import pytest

from ssl_jax.core import processes
from ssl_jax.errors import UserError
from ssl_jax.workdir import shared
from ssl_jax.workdir.workdir import Workdir

CONFIG = {
    "name": "a",
    "phases": ["train"],
    "train": {"algorithm": {}, "steps": 9},
    "data": {"labels": ""},
}


def test_a_follower_knows_what_the_first_found(tmp_path):
    with Workdir.open(tmp_path / "w", CONFIG) as workdir:
        (workdir.path / "metrics.jsonl").write_text('{"phase": "train", "step": 5}\n')
        (workdir.phase("train").checkpoints / "7").mkdir(parents=True)
        workdir.phase("train").pseudo_labels.write_bytes(b"of a teacher")
        (workdir.path / "labels.csv").write_text("image,label\n1.png,cat\n")
        (workdir.path / "queries.csv").write_text("image,label\n")
        workdir.draw("train", {"views": lambda: 1 / 0})
        (workdir.path / "events.out.1").write_text("long")
        files = shared._small_files(workdir.path)
    folder = tmp_path / "follower"
    folder.mkdir()
    shared._write(folder, files)
    follower = shared.Follower(folder)
    assert follower.begun and follower.undrawn("train") and not follower.writes
    assert follower.config == CONFIG and follower.result is None
    assert follower.phase("train").trained == 7
    assert follower.phase("train").pseudo_labels.read_bytes() == b"of a teacher"
    given = {**CONFIG, "data": {"labels": "/of/process_0/only.csv"}}
    assert follower.labels(given) == str(folder / "labels.csv")
    new = tmp_path / "new"  # of a run in which nothing is trained yet
    new.mkdir()
    shared._write(new, {"labels.csv": files["labels.csv"]})
    assert shared.Follower(new).labels(given) == str(new / "labels.csv")
    (folder / "labels.csv").unlink()
    assert follower.labels(given) == "/of/process_0/only.csv"
    assert follower.journal.rows() == [{"phase": "train", "step": 5}]
    assert follower.queries.read_text() == "image,label\n"
    assert (folder / "events.out.1").read_text() == ""
    drawn = []
    follower.draw("train", {"views": lambda: drawn.append(1), "bad": lambda: 1 / 0})
    assert drawn == [1] and not list(follower.figures.glob("*.png"))


def test_alone_a_workdir_is_entered_as_ever(tmp_path):
    seen = []

    def verdicts(workdir):
        seen.append(workdir.path)
        return {}

    with shared.entered(tmp_path / "w", CONFIG, {}, verdicts) as workdir:
        assert type(workdir) is Workdir and workdir.writes
    assert seen == [tmp_path / "w"]
    with pytest.raises(ZeroDivisionError):
        with shared.entered(tmp_path / "v", CONFIG, {}, verdicts):
            raise ZeroDivisionError
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("field", ["steps", "log_every", "checkpoint_every"])
def test_all_are_given_one_configuration(tmp_path, monkeypatch, field):
    """What may differ between two launches as well, where it says when all do what they
    do together."""
    theirs = CONFIG | {"train": {**CONFIG["train"], field: 3}}
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "of_first", lambda function: theirs)
    with pytest.raises(UserError, match=f"(?s)process 0 .*train.{field} = 3 there"):
        with shared.entered(tmp_path / "w", CONFIG, {}, lambda workdir: {}):
            pass
    assert not (tmp_path / "w").exists()
