"""README and docs/ are true: their examples run, their tables are the results', their
commands name what there is."""

import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from sklearn.datasets import load_digits

import readme_example
from experiments import readme
from ssl_jax import algorithms, augment
from ssl_jax.cli import command_line, modes
from ssl_jax.errors import UserError
from ssl_jax.train.run import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_the_example_method_trains(data, tmp_path):
    """By its word on any data set; and test_contract.py holds it to the contract."""
    readme_example.install()
    get_config = importlib.import_module(f"configs.{data}").get_config
    result = run(get_config("entropy,debug"), tmp_path / "run")
    assert result["name"] == f"entropy_{data}_debug"
    assert result["phases"]["train"]["algorithm"] == "entropy.Entropy"
    assert result["device"]["count"] == 4


def test_label_spreading_in_a_notebook():
    section = page("methods").partition("## Label spreading and propagation")[2]
    names = {}
    exec(re.search(r"```python\n(.*?)```", section, re.S)[1], names)
    truth_N = load_digits().target
    assert (names["said_N"][50:] == truth_N[50:]).mean() > 0.8


def test_images_in_memory(tmp_path, monkeypatch):
    """And the result says which run it was."""
    section = page("data").partition("## Images in memory")[2]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", section, re.S)[1], names)
    result = json.loads((tmp_path / "runs/in_memory/result.json").read_text())
    assert result == names["result"] and result["name"] == "flexmatch_digits_debug"
    assert len(names["dataset"].images_NHWC) == 1200
    assert 0 <= result["test"]["accuracy"] <= 1


def test_the_example_is_thirty_lines():
    lines = readme_example.ALGORITHM.splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 30


def test_documents_have_the_tables_of_the_results():
    """As `python -m experiments.readme` would write them, without JAX."""
    assert readme.fill(check=True) == []
    code = (
        "import sys; from experiments import readme; "
        "tables = [readme.written(name) for name in readme.TABLES]; "
        "sys.exit('jax' in sys.modules or not all(tables))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT)
    assert done.returncode == 0


def test_every_table_is_in_a_document():
    shown = {
        name
        for path in readme.documents()
        for name in re.findall(r"<!-- (\w+) -->", path.read_text())
    }
    assert shown - {"end"} == {*readme.TABLES}


def test_documents_are_filled_and_mistakes_in_them_told(tmp_path):
    (tmp_path / "docs").mkdir()
    one, other = tmp_path / "A.md", tmp_path / "docs/b.md"
    one.write_text("before\n<!-- digits -->\n<!-- end -->\n\nafter\n")
    other.write_text("<!-- mnist -->\nold\n\n| t |\n<!-- end -->\n" + one.read_text())
    (tmp_path / "docs/c.md").write_text("no table, <!-- a remark -->\n")
    digits, mnist = (readme.written(name) for name in ("digits", "mnist"))
    told = readme.fill(tmp_path, check=True)
    assert len(told) == 2 and "-old" in told[1] and "docs/b.md" in told[1]
    assert "| t |" in other.read_text()
    assert readme.fill(tmp_path) == told and readme.fill(tmp_path) == []
    filled = f"before\n<!-- digits -->\n{digits}\n<!-- end -->\n\nafter\n"
    assert one.read_text() == filled
    assert other.read_text() == f"<!-- mnist -->\n{mnist}\n<!-- end -->\n{filled}"
    for wrong, said in {
        "<!-- digit -->\n<!-- end -->": "digit --> is none of: active_digits, ",
        "<!-- digits -->\n": "A.md: <!-- digits --> has no <!-- end -->",
        "<!-- digits -->\n<!-- mnist -->\n<!-- end -->\n": "digits --> has no",
    }.items():
        one.write_text(wrong)
        with pytest.raises(UserError, match=said):
            readme.fill(tmp_path)
    with pytest.raises(UserError, match="few_labels.jsonl, for .* has no results"):
        readme.written("digits", tmp_path)


def test_readme_is_one_page():
    assert README.count("\n") <= 200


@pytest.mark.parametrize("path", readme.documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, place = link.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{path.name} links to {link}, which is not there"
        if place:
            assert place in _places(there), f"{path.name} links to {link}: no #{place}"


def _places(path):
    """What GitHub calls the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_configs_of_papers_say_what_they_were_held_against():
    """Every file that names a paper, and the repositories by a commit."""
    section = page("methods").partition("\n## Sources and departures\n")[2]
    sources, configs = section.partition("\n## ")[0].split("| config |")
    rows = re.findall(r"^\| [^|]+ \| (\S+/\S+) \| (\S+) \|", sources, re.MULTILINE)
    assert len(rows) >= 15 and all(re.fullmatch(r"[0-9a-f]{7}", c) for _, c in rows)
    for path in sorted((ROOT / "configs").glob("*.py")):
        if "arXiv:" in path.read_text().split('"""')[1]:
            assert f"`{path.stem}`" in configs, path.name


def test_methods_names_every_method_network_and_kind_of_views():
    """By a word, or by the class as a config has it."""
    text = page("methods")
    there = [*algorithms.names(), *augment.names()]
    there += [file.stem for file in (ROOT / "ssl_jax/models").glob("[a-z]*.py")]
    # The example of README, which a test above may have added, has no line.
    missing = [n for n in there if not re.search(rf"`{n}[`.]", text)]
    assert set(missing) <= {"entropy"}


def test_running_names_every_file_that_a_run_leaves():
    """As the room that writes them calls them."""
    code = [file.read_text() for file in (ROOT / "ssl_jax/workdir").glob("*.py")]
    literal = r'"([a-z_]+\.(?:json|jsonl|csv|npz|html))"'
    left = set(re.findall(literal, "\n".join(code)))
    assert {"config.json", "said.npz", "report.html"} <= left
    table = page("running").partition("## What a run leaves")[2].partition("\n\n`")[0]
    assert not [name for name in sorted(left) if name not in table]


def test_code_that_a_newcomer_asks_for_is_two_steps_away():
    """README links to it, or to a page that does."""
    for file, name in (
        ("ssl_jax/algorithms/fixmatch.py", "def targets("),  # FixMatch's threshold
        ("ssl_jax/workdir/checkpoints.py", "def checksum("),
        ("ssl_jax/augment/randaugment.py", "def randaugment"),
    ):
        assert f"]({file})" in README
        assert name in (ROOT / file).read_text()


def commands(text):
    """Lines of shell in a page's blocks, and what stands between backticks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    spans = re.findall(r"`([^`]+)`", prose)
    return [line for block in blocks for line in block.splitlines()] + [
        " ".join(span.split()) for span in spans
    ]


@pytest.mark.parametrize("path", readme.documents(), ids=lambda path: path.name)
def test_commands_name_what_there_is(path):
    """Configs with their words and overrides, modes, and modules."""
    readme_example.install()  # README's method is a word
    for command in commands(path.read_text()):
        if re.match(r"python launch.py |--config=|--mode=", command):
            _check_launch(command)
        for module in re.findall(r"python -m ([\w.]+)", command):
            assert importlib.util.find_spec(module), f"{path.name}: {command}"


def _check_launch(command):
    argv = ["launch.py", *(a for a in shlex.split(command) if a.startswith("--"))]
    known = flags.FlagValues()
    for name in ("config", "workdir", "coordinator"):
        flags.DEFINE_string(name, None, "", flag_values=known)
    for name in ("num_processes", "process_id"):
        flags.DEFINE_integer(name, None, "", flag_values=known)
    flags.DEFINE_enum("mode", "train", list(modes.MODES), "", flag_values=known)
    of_a_run = command_line.argument("mode", argv) in modes.OF_A_RUN
    # A run's, which is not there; or of a flag alone, in a sentence.
    if of_a_run or command.startswith("--mode="):
        argv.append("--config=digits")
    command_line.parse(known, argv, modes.OF_A_RUN)


def test_ci_runs_the_readmes_test_command():
    """.ci/run takes the line from README.md by the word pytest."""
    commands = [line for line in README.splitlines() if line.endswith("-m pytest")]
    assert len(commands) == 1
    assert commands[0].startswith("python3 -m venv .venv && ")
    assert "-m pytest$' README.md" in (ROOT / ".ci/run").read_text()
