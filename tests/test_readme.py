"""README is true: its example trains, its tables are the results', its commands run."""

import importlib
import re
from pathlib import Path

import pytest

from experiments import few_labels
from ssl_jax import algorithms, loop

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_method_trains(tmp_path, monkeypatch):
    algorithm, config = re.findall(r"```python\n(.*?)```", README, re.S)
    for folder, text in (("algorithms", algorithm), ("configs", config)):
        (tmp_path / folder).mkdir()
        name = {"algorithms": "mean_teacher", "configs": "mean_teacher_digits"}[folder]
        (tmp_path / folder / f"{name}.py").write_text(text)
    lines = [line for line in (algorithm + config).splitlines() if line.strip()]
    assert len(lines) <= 38
    # As if the files lay where the README says.
    paths = [*algorithms.__path__, str(tmp_path / "algorithms")]
    monkeypatch.setattr(algorithms, "__path__", paths)
    monkeypatch.syspath_prepend(tmp_path / "configs")
    config = importlib.import_module("mean_teacher_digits").get_config("debug")
    result = loop.run(config, tmp_path / "run")
    assert result["phases"]["train"]["algorithm"] == "mean_teacher.MeanTeacher"
    assert result["device"]["count"] == 4


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_tables_are_generated_from_the_results(data):
    results = few_labels.read(ROOT / few_labels.COMMITTED / data)
    assert f"<!-- {data} -->\n{few_labels.table(results)}\n<!-- end -->" in README


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_ci_runs_the_readmes_test_command():
    """.ci/run takes the line from README.md by the word pytest."""
    commands = [line for line in README.splitlines() if line.endswith("-m pytest")]
    assert len(commands) == 1
    assert commands[0].startswith("python3 -m venv .venv && ")
    assert "-m pytest$' README.md" in (ROOT / ".ci/run").read_text()
