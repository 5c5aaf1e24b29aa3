"""The house keeps to its plan (docs/house.md): imports point one way, and more."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "ssl_jax"
FOLDERS = ("ssl_jax", "configs", "experiments", "tests")
# A floor's rooms may import themselves and the floors behind, not each other.
FLOORS = (
    ("api",),
    ("cli",),
    ("active", "analyze", "tuning"),
    ("train",),
    ("algorithms",),
    ("models", "data", "evaluate", "report"),
    ("augment", "graphs", "workdir"),
    ("core",),
    ("errors",),
)
# (importer, imported) beside the plan, each with the reason why the code needs it.
BESIDE: set[tuple[str, str]] = set()
PURE = ("algorithms", "models", "augment", "graphs", "core")
IMPURE = (
    *("ml_collections", "absl", "orbax", "clu.metric_writers"),
    *("tensorflow", "tensorflow_datasets"),
)
MODULES = sorted(HOUSE.rglob("*.py"))


def named(file: Path, house: Path = HOUSE) -> str:
    """ssl_jax/a/b.py -> ssl_jax.a.b, and ssl_jax/a/__init__.py -> ssl_jax.a"""
    parts = file.relative_to(house.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path, house: Path = HOUSE) -> Iterator[str]:
    """Full names that `file` imports, in functions as well: `ssl_jax.a.b` of `from
    ssl_jax.a import b`, module or not."""
    package = named(file, house).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # from .x: one dot is the package itself, each further one a step up.
            up = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*up, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def module_of(name: str, modules: set[str]) -> str:
    """The module that an imported name is, or is in."""
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    return name


def arrows(house: Path = HOUSE) -> dict[str, set[str]]:
    """module -> the modules of the house that it imports; but the house's own
    __init__, which runs before any of them and is judged by itself."""
    files = {named(file, house): file for file in sorted(house.rglob("*.py"))}
    return {
        module: {module_of(name, files.keys()) for name in imported(file, house)}
        & files.keys() - {module, house.name}
        for module, file in files.items()
        if module != house.name
    }


def wrong_arrows(house: Path = HOUSE) -> list[str]:
    floor = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for module, targets in arrows(house).items():
        file = "/".join(module.split("."))
        file += "/__init__.py" if (house.parent / file).is_dir() else ".py"
        room = module.split(".")[1]
        if room not in floor:
            wrong.append(f"{file}: {room} has no floor in the plan")
            continue
        behind = [each for rooms in FLOORS[floor[room] + 1 :] for each in rooms]
        behind += [b for a, b in sorted(BESIDE) if a == room]
        for target in sorted(targets):
            if target.split(".")[1] not in (room, *behind):
                may = f"may import {', '.join(behind)}" if behind else "imports nothing"
                wrong.append(f"{file} imports {target}: {room} {may}")
    return wrong


def cycle(house: Path = HOUSE) -> list[str]:
    """Modules each of which is imported by the next, the first one again at the end;
    empty if there are none."""
    try:
        graphlib.TopologicalSorter(arrows(house)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def outside(file: Path, forbidden: tuple[str, ...]) -> list[str]:
    """What `file` imports of the forbidden packages and modules."""
    beginning = tuple(f"{name}." for name in forbidden)
    return [name for name in imported(file) if f"{name}.".startswith(beginning)]


def refused(files: list[Path], forbidden: tuple[str, ...], rule: str) -> str:
    return "\n".join(
        f"{file.relative_to(ROOT)} imports {name}: {rule}"
        for file in files
        for name in outside(file, forbidden)
    )


def test_imports_point_one_way():
    wrong = wrong_arrows()
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others():
    found = cycle()
    assert not found, " <- ".join(found)


def test_the_house_itself_is_imported_at_once_and_asked_for_no_more_than_its_version():
    """What `import ssl_jax` offers is imported when it is asked for."""
    tree = ast.parse((HOUSE / "__init__.py").read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.Import)]
    names = [alias.name for node in at_once for alias in node.names]
    names += [n.module or "." for n in tree.body if isinstance(n, ast.ImportFrom)]
    slow = [n for n in names if n.partition(".")[0] not in sys.stdlib_module_names]
    assert not slow, f"ssl_jax/__init__.py imports {slow[0]} where it is imported"
    rooms = {room for rooms in FLOORS for room in rooms} | {"__version__"}
    asked = [
        f"{file.relative_to(ROOT)} imports {name}: what is in ssl_jax/__init__.py is "
        "for users; inside, import it from where it is"
        for file in MODULES
        for name in imported(file)
        if name == "ssl_jax" or name.startswith("ssl_jax.")
        if name.partition(".")[2].partition(".")[0] not in rooms
    ]
    assert not asked, "\n".join(asked)


@pytest.mark.parametrize("room", PURE)
def test_what_computes_knows_no_files_flags_or_configs(room):
    files = sorted((HOUSE / room).rglob("*.py"))
    assert files
    wrong = refused(files, IMPURE, f"{room} is pure, that is for train and workdir")
    assert not wrong, wrong


def test_nothing_in_the_house_leans_on_what_stands_outside_it():
    folders = ("configs", "experiments", "tests", "launch")
    wrong = refused(MODULES, folders, "it uses ssl_jax, and not the other way round")
    assert not wrong, wrong


def test_one_module_knows_orbax():
    the_one = HOUSE / "workdir" / "checkpoints.py"
    assert outside(the_one, ("orbax",))
    others = [file for file in MODULES if file != the_one]
    wrong = refused(others, ("orbax",), "only workdir/checkpoints.py does")
    assert not wrong, wrong


def test_every_method_says_what_it_does_otherwise():
    """Than its authors' code or paper: the docstring's last words, after one word."""
    for file in sorted((HOUSE / "algorithms").glob("[!_]*.py")):
        *_, last = ast.get_docstring(ast.parse(file.read_text())).split("\n\n")
        assert last.startswith("Departures: "), file.name


def test_no_file_is_over_400_lines():
    files = [*ROOT.glob("*.py")]
    for folder in FOLDERS:
        files += (ROOT / folder).rglob("*.py")
    lines = {file.relative_to(ROOT): file.read_text().count("\n") for file in files}
    long = [f"{file} has {n} lines" for file, n in lines.items() if n > 400]
    assert not long, "\n".join(long)


def test_a_report_starts_without_jax(tmp_path):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ssl_jax.report", tmp_path / "none"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 2 and "does not exist" in run.stderr, run.stderr[-2000:]
    loaded = re.findall(r"^import time:.*\| +(\S+)$", run.stderr, re.M)
    assert "ssl_jax.report.tables" in loaded
    heavy = {"jax", "jaxlib", "flax", "orbax", "clu", "tensorflow"}
    found = [name for name in loaded if name.partition(".")[0] in heavy]
    assert not found, f"python -m ssl_jax.report imports {found[0]}, among others"


def unknown(file: Path) -> list[str]:
    """What `file` asks of the project's modules that they do not have: names that it
    imports, and attributes of modules that it imports."""
    tree, modules, wrong = ast.parse(file.read_text()), {}, []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        if (node.module or "").partition(".")[0] not in ("ssl_jax", "configs"):
            continue
        for alias in node.names:
            try:
                found = importlib.import_module(f"{node.module}.{alias.name}")
                modules[alias.asname or alias.name] = found
            except ModuleNotFoundError:
                if not hasattr(importlib.import_module(node.module), alias.name):
                    wrong.append(f"{node.module}.{alias.name}")
    bound = set()  # a variable may be called as a module is
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module and node.value.id not in bound and not hasattr(module, node.attr):
                wrong.append(f"{node.value.id}.{node.attr}")
    return wrong


def test_what_is_asked_of_a_module_is_there():
    """Also where no test goes: in the experiments that train for hours."""
    wrong = [
        f"{file.relative_to(ROOT)} asks for {name}"
        for folder in ("configs", "experiments", "ssl_jax")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in unknown(file)
    ]
    assert not wrong, "\n".join(wrong)


# What a run leaves is no name of the code.
LEFT = re.compile(r"\.(json|jsonl|csv|npz|png|html|toml|yml|txt|sbatch)$")
DOTTED = re.compile(r"[A-Za-z_]\w+(?:\.[A-Za-z_]\w*)+")  # not e.g.
FILES = (".py", ".md")


def named_in(page: str) -> list[str]:
    """What a page of docs/ names: dotted names and paths between backticks, and
    dotted names and files in fenced blocks that are no program."""
    spans = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page, re.S | re.M):
        if language in ("", "text"):
            words = [word.strip(".") for word in re.findall(r"[\w./*]+", block)]
            spans += [w for w in words if DOTTED.fullmatch(w) or w.endswith(FILES)]
    prose = re.sub(r"^```.*?^```", "", page, flags=re.S | re.M)
    spans += re.findall(r"`([^`\n]+)`", prose)
    spans = [re.sub(r"\(.*\)$", "", span) for span in spans]  # f(x) is f
    is_path = re.compile(r"[\w.*]+(/[\w.*]+)*/?")
    return [
        span
        for span in spans
        if not LEFT.search(span)
        and (DOTTED.fullmatch(span) or ("/" in span and is_path.fullmatch(span)))
    ]


def missing(name: str) -> str:
    """What of a name that a page has is not there; "" if all of it is."""
    for folder in (ROOT, HOUSE):
        if any(folder.glob(name.strip("/"))):
            return ""
    if "/" in name or name.endswith(FILES):
        return f"there is no file {name}, nor ssl_jax/{name}"
    said = []
    for whole in (f"ssl_jax.{name}", name):
        found = _resolve(whole)
        if not found:
            return ""
        said.append(found)
    return said[0] if not name.startswith("ssl_jax.") else said[1]


def _resolve(name):
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            at = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for i in range(end, len(parts)):
            # A field without a default is no attribute of its class.
            if parts[i] in getattr(at, "__dataclass_fields__", {}):
                return ""
            if not hasattr(at, parts[i]):
                return f"{'.'.join(parts[:i])} has no {parts[i]}"
            at = getattr(at, parts[i])
        return ""
    return f"there is no {name}"


def test_every_name_in_the_page_of_the_house_exists():
    page = (ROOT / "docs" / "house.md").read_text()
    names = named_in(page)
    assert len([name for name in names if "/" not in name]) >= 10, names
    walk = page.partition("## The walk of a run")[2].split("```")[1]
    assert len(walk.splitlines()[1:]) <= 25
    wrong = [f"docs/house.md has `{n}`: {said}" for n in names if (said := missing(n))]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def toy(tmp_path):
    """A house with mistakes."""
    for file, text in {
        "__init__.py": "",
        "errors.py": "",
        "core/__init__.py": "from ssl_jax.core.steps import step",
        "core/steps.py": "import ssl_jax.errors\nfrom ssl_jax import errors",
        "data/__init__.py": "",
        "data/loading.py": "def f():\n    from ..train import sections",
        "data/sources/__init__.py": "from .. import loading\nfrom . import folder",
        "data/sources/folder.py": "from ssl_jax import data, graphs",
        "graphs/__init__.py": "from ssl_jax import workdir",
        "workdir/__init__.py": "from ssl_jax.core import step",
        "train/__init__.py": "",
        "train/sections.py": "from ssl_jax.data.loading import load",
        "extra/__init__.py": "",
    }.items():
        path = tmp_path / "ssl_jax" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return tmp_path / "ssl_jax"


def test_wrong_arrows_are_seen_and_right_ones_let_be(toy):
    assert arrows(toy)["ssl_jax.data.sources"] == {
        "ssl_jax.data.loading",
        "ssl_jax.data.sources.folder",
    }
    assert wrong_arrows(toy) == [
        "ssl_jax/data/loading.py imports ssl_jax.train.sections: data may import "
        "augment, graphs, workdir, core, errors",
        "ssl_jax/extra/__init__.py: extra has no floor in the plan",
        "ssl_jax/graphs/__init__.py imports ssl_jax.workdir: graphs may import "
        "core, errors",
    ]
    found = cycle(toy)
    assert found[0] == found[-1]
    assert set(found) == {"ssl_jax.data.loading", "ssl_jax.train.sections"}
    (toy / "train/sections.py").write_text("")
    assert cycle(toy) == []


def test_names_of_a_page_are_found_and_looked_up():
    page = """`core.steps.forward(x)` and `core/steps.py`, not `x = 1` or `result.json`;
`python launch.py --mode=probe`, `<phase>/done.json`, `configs/*.py`.

```
launch.py -> cli.modes.train(config), see configs/base.py, e.g. and/or so.
```
```python
nothing.here
```
"""
    assert named_in(page) == [
        *("launch.py", "cli.modes.train", "configs/base.py"),
        *("core.steps.forward", "core/steps.py", "configs/*.py"),
    ]
    assert [missing(name) for name in named_in(page)] == [""] * 6
    assert missing("ssl_jax.core.steps.forward") == missing("jax.lax.scan") == ""
    assert missing("core.TrainState.params") == ""
    assert missing("core.steps.backward") == "ssl_jax.core.steps has no backward"
    assert missing("ssl_jax.core.nope") == "ssl_jax.core has no nope"
    assert "no file core/nope.py" in missing("core/nope.py")
