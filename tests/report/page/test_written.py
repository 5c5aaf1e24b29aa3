"""The page of workdirs that are made by hand: all is there, escaped, in one file."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.report import __main__
from ssl_jax.report.page import blocks, written
from ssl_jax.workdir.policy import SEARCH
from ssl_jax.workdir.workdir import Workdir

CLASSES = ("<b>cat</b>", 'a "dog" & co', "bird")
VOID = {"meta", "img", "br", "path"}


class Page(HTMLParser):
    """The elements and the text of a page whose elements are closed as they were
    opened."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def config(name, seed):
    train = {"algorithm": {"name": "fixmatch.FixMatch"}, "optimizer": {"name": "sgd"}}
    train |= {"start_from": "scratch", "steps": 20, "labels_from": ""}
    return {
        "name": name,
        "seed": seed,
        "num_seeds": 1,
        "phases": ["train"],
        "data": {"name": "digits", "num_labels": 6},
        "model": {"name": "mlp"},
        "query": {"rounds": 0},
        "train": train,
    }


def make(path: Path, accuracy, name="fixmatch_digits", seed=0, images=True):
    """A run's workdir: of 8 test images, `accuracy` times as many are right."""
    (path / "train").mkdir(parents=True)
    of = config(name, seed)
    versions, git = {"jax": "9.9.9"}, {"commit": "c0ffee", "clean": False}
    saved = {"config": of, "versions": versions, "git": git, "resumed": 0}
    saved |= {"command": ["launch.py", "--config=digits", "--workdir=a b"]}
    write(path / "config.json", saved)
    rows = [
        {
            "phase": "train",
            "step": step,
            "train/loss": 1 / step,
            "train/share_kept": 0.5,
            "train/kept_accuracy": 0.9,
            "train/kept_per_class": [1.0, 2.0, 3.0],
            "train/predicted_per_class": [4.0, 5.0, 6.0],
            "train/threshold_per_class": [0.95, 0.95, None],
            "test/accuracy": accuracy - 0.1 + step / 200,
        }
        for step in (10, 20)
    ]
    journal = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(journal)
    test = {"accuracy": accuracy, "accuracy_median20": accuracy, "evaluations": 2}
    entry = {"algorithm": "fixmatch.FixMatch", "steps": 20, "stopped": "steps"}
    entry |= {"seconds": 1.0, "val": {}, "test": test}
    write(path / "train" / "done.json", entry)
    data = {"name": "digits", "classes": dict.fromkeys(CLASSES, 2), "unlabeled": 50}
    data |= {"validation": 0, "test": 8, "shape": [8, 8, 1], "sizes": [8, 8]}
    result = {"name": name, "seed": seed, "config": of, "device": {"kind": "cpu"}}
    result["device"]["count"] = 1
    result |= {"versions": versions, "git": git, "data": data, "test": test}
    write(path / "result.json", result | {"phases": {"train": entry}, "resumed": 0})
    if images:
        labels_M = np.arange(8) % 3
        said_M = (labels_M + (np.arange(8) >= 8 * accuracy)) % 3
        logits_MK = (4 + np.arange(8)[:, None]) * np.eye(3, dtype=np.float32)[said_M]
        shown = np.zeros((8, 8, 8, 1), np.uint8)
        folder = Workdir(path).phase("train")
        folder.write_said({"test": (logits_MK, labels_M)}, np.arange(8), shown)
    return path


def write(path, value):
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("form", ["webp", "png"])
@pytest.mark.parametrize("C", [1, 3])
def test_a_picture_is_the_image_in_fewer_bytes_than_png(form, C, monkeypatch):
    """Bit for bit up to 96 pixels; PNG where Pillow has no WebP."""
    monkeypatch.setattr("PIL.features.check", lambda name: form == "webp")
    slow_HWC = np.random.default_rng(0).normal(0, 9, (32, 32, C)).cumsum(0).cumsum(1)
    image_HWC = np.uint8(np.clip(128 + slow_HWC, 0, 255))
    source = blocks.image(image_HWC)
    begin, _, data = source.partition(",")
    assert begin == f"data:image/{form};base64"
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    mode = "L" if C == 1 else "RGB"
    shown_HWC = np.reshape(shown.convert(mode), image_HWC.shape)
    np.testing.assert_array_equal(shown_HWC, image_HWC)
    png = io.BytesIO()
    Image.fromarray(image_HWC.squeeze()).save(png, format="PNG", optimize=True)
    smaller = len(base64.b64decode(data)) < len(png.getvalue())
    assert smaller == (form == "webp")


def test_a_page_is_one_file_with_all_that_a_run_has(tmp_path):
    html = written.of_workdirs([make(tmp_path / "run", 0.75)])
    page = Page(html)
    links = [a for _, attrs in page.elements for a in ("href", "src") if a in attrs]
    assert links == ["src"] * 8 and not page.of("script") and not page.of("link")
    assert "url(" not in html and "@import" not in html and "http" not in html
    assert all(image["src"].startswith("data:image/") for image in page.of("img"))
    assert all(len(image["alt"]) > 10 for image in page.of("img"))
    plots = [svg for svg in page.of("svg") if svg["class"] == "plot"]
    assert len(plots) >= 5 and all(svg["aria-label"] for svg in plots)
    assert "prefers-color-scheme: dark" in html
    for said in (
        *("75.00%", "6 of 8", "c0ffee, with changes", "9.9.9", "--workdir=a b'"),
        *("2 of 2", "8x8 grey", "every other test image (4;"),
        *("kept, of all 50.00%", "all 13 settings", "train.steps"),
        "20 steps, without compiling",
    ):
        assert said in page.text, said
    headings = re.findall("<h2>(.*?)</h2>", html)
    assert headings == [
        *("In short", "Learning curves, by phase", "Pseudo-labels", "Classes"),
        *("Calibration", "Pictures", "Settings, data and versions"),
    ]


@pytest.mark.parametrize(
    "argv, said",
    [
        (["/src/launch.py", "--seed"], r"python /src/launch.py \ --seed"),
        (
            ["/src/experiments/tables/few_labels.py", "--seeds=0"],
            r"python -m experiments.tables.few_labels \ --seeds=0",
        ),
        (["/lib/ipykernel_launcher.py", "-f", "k.json"], "Made from Python"),
        ([""], "Made from Python"),
    ],
)
def test_the_command_is_shown_as_it_is_typed(argv, said, tmp_path):
    run = make(tmp_path / "run", 0.75)
    saved = json.loads((run / "config.json").read_text())
    write(run / "config.json", saved | {"command": argv})
    text = " ".join(Page(written.of_workdirs([run])).text.split())
    assert said in text and "python /lib" not in text


def test_names_are_text(tmp_path):
    html = written.of_workdirs([make(tmp_path / "<i>run", 0.75)])
    page = Page(html)
    assert not page.of("i") and not page.of("dog")
    assert all(name in page.text for name in CLASSES) and "<i>run" in page.text
    assert any(CLASSES[1] in image["alt"] for image in page.of("img"))


def test_pictures_are_of_mistakes_first_surest_first(tmp_path):
    page = Page(written.of_workdirs([make(tmp_path / "run", 0.75)]))
    alts = [image["alt"] for image in page.of("img")]
    assert [alt.partition(":")[0] for alt in alts[:2]] == [
        "test image 6",
        "test image 7",
    ]
    assert all(" said " in alt for alt in alts[:2]) and " or " in alts[2]


def test_of_several_phases_it_says_which_is_shown(tmp_path):
    path = make(tmp_path / "run", 0.75)
    saved = json.loads((path / "config.json").read_text())
    saved["config"] |= {"phases": ["train", "more"], "more": saved["config"]["train"]}
    write(path / "config.json", saved)
    page = Page(written.of_workdirs([path]))  # whose second phase has not begun
    assert "is what train says of them" in page.text and "right, of train" in page.text
    assert "train: accuracy" in page.text and "not over" in page.text
    assert "0 of 20" in page.text


def test_what_is_missing_is_said(tmp_path):
    bare = make(tmp_path / "bare", 0.75, images=False)
    assert "kept no predictions" in Page(written.of_workdirs([bare])).text
    begun = make(tmp_path / "begun", 0.75, images=False)
    for file in ("result.json", "train/done.json"):
        (begun / file).unlink()
    page = Page(written.of_workdirs([begun]))
    assert "not finished" in page.text and "20" in page.text
    assert "accuracy 85.00%" not in page.text and "test 75.00%" in page.text


def test_a_temperature_that_no_mistake_holds_is_told_of(tmp_path):
    said = "an end of those that are tried (0.05 to 20)"
    all_right, some = make(tmp_path / "all", 1.0), make(tmp_path / "some", 0.75)
    assert said in Page(written.of_workdirs([all_right])).text
    assert said not in Page(written.of_workdirs([some])).text


def test_runs_are_compared_over_their_seeds(tmp_path):
    ours = [make(tmp_path / f"f{s}", a, seed=s) for s, a in enumerate((0.75, 0.875, 1))]
    floor = [
        make(tmp_path / f"s{s}", a, "supervised_digits", s)
        for s, a in enumerate((0.5, 0.75, 0.625))
    ]
    page = Page(written.of_workdirs([*ours, *floor]))
    # Differences 25, 12.5 and 37.5: t = 25 / (12.5 / sqrt 3), for which p is 0.074.
    for said in ("+25.00", "0.074", "3 pairs of seeds", "87.50 ± 12.50 (3)"):
        assert said in page.text, said
    assert len(page.of("details")) > 6 and page.text.count("fixmatch_digits") >= 3
    # Of the first run of each method, but for one that has nothing to show yet.
    assert page.text.count("The surest mistakes") == 2
    assert "first run alone" in page.text
    assert "The surest mistakes" in page.text.split(", seed 1;")[0]
    (ours[0] / "train" / "said.npz").unlink()
    later = Page(written.of_workdirs(ours)).text
    assert "The surest mistakes" in later and "first run alone" in later
    assert "The surest mistakes" not in later.split(", seed 1;")[0]
    fewer = Page(written.of_workdirs([*ours, *floor[:2]]))
    # Welch's of (75, 87.5, 100) and (50, 75).
    assert "3 and 2 seeds, not paired" in fewer.text and "+25.00" in fewer.text
    other = Page(written.of_workdirs([*ours, *floor], baseline="fixmatch"))
    assert "-25.00" in other.text and "+25.00" not in other.text


@pytest.mark.parametrize(
    "other",
    [
        {"num_labels": 12},
        {"imbalance": "step", "gamma_labeled": 9, "gamma_unlabeled": 9},
    ],
    ids=["labels", "imbalance"],
)
def test_what_is_a_column_of_its_own_has_pictures_of_its_own(tmp_path, other):
    folders = [make(tmp_path / f"f{n}", 0.75) for n in range(2)]
    for name in ("config.json", "result.json"):
        file = folders[1] / name
        saved = json.loads(file.read_text())
        saved["config"]["data"] |= other
        write(file, saved)
    text = Page(written.of_workdirs(folders)).text
    assert text.count("The surest mistakes") == 2
    assert text.count("methods compared") == 2 and "first run alone" not in text


def test_of_runs_with_rarer_classes_it_says_what_each_counts_alike_in(tmp_path):
    folders = [make(tmp_path / f"f{seed}", 0.75, seed=seed) for seed in (0, 1)]
    for folder, balanced in zip(folders, (0.5, 0.6), strict=True):
        result = json.loads((folder / "result.json").read_text())
        gammas = {"gamma_labeled": 20.0, "gamma_unlabeled": 20.0}
        result["config"]["data"] |= {"imbalance": "step", **gammas}
        result["test"] |= dict.fromkeys(("geometric_mean", "f1"), 0.25)
        result["test"]["balanced_accuracy"] = balanced
        write(folder / "result.json", result)
    text = Page(written.of_workdirs(folders)).text
    for said in ("digits_step20, 6 labels", "55.00 ± 7.07 (2)", "Each class counting"):
        assert said in text, said
    alone = Page(written.of_workdirs(folders[1:])).text
    assert "balanced accuracy" in alone and "60.00%" in alone


def test_the_program_writes_a_page_of_a_folder_of_runs(tmp_path, capsys):
    runs = tmp_path / "runs"
    for seed in (0, 1):
        make(runs / f"f{seed}", 0.75, seed=seed)
    make(runs / "f0-tune", 0.5)  # a search is no run
    (runs / "f0-tune" / SEARCH).touch()
    file = tmp_path / "new" / "page.html"
    given = flags.FlagValues()
    argv = ["report", str(runs), str(runs / "f0"), f"--html={file}"]
    __main__.main(__main__.parse(argv, given), given)
    assert capsys.readouterr().out == f"{file}\n"
    page = Page(file.read_text())
    assert "2 runs: fixmatch_digits" in page.text and "75.00 ± 0.00 (2)" in page.text


@pytest.mark.parametrize(
    "argv, said",
    [
        (["nowhere", "--html=a.html"], "'nowhere' is no run's workdir: it has no con"),
        (["empty", "--html=a.html"], "the run in empty has logged nothing yet"),
        (["runs", "--html=file/a.html"], "--html=file/a.html cannot be written"),
        (["runs", "--html=runs"], "--html=runs cannot be written .*directory"),
        (
            ["runs", "runs/f0", "other", "--html=a.html", "--baseline=best"],
            "--baseline=best is none .* they are: fixmatch",
        ),
        (["broken", "--html=a.html"], ".*said.npz cannot be read .*delete it"),
    ],
)
def test_mistakes_are_one_message(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(Path("runs/f0"), 0.75)
    make(Path("other"), 0.75, seed=1)
    make(Path("broken"), 0.75)
    Path("broken/train/said.npz").write_bytes(b"PK")
    Path("file").touch()
    Path("empty").mkdir()
    write(Path("empty/config.json"), {"config": config("a_digits", 0)})
    given = flags.FlagValues()
    with pytest.raises(SystemExit) as exit:
        __main__.main(__main__.parse(["report", *argv], given), given)
    out, err = capsys.readouterr()
    assert (exit.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert re.match(f"report: {said}", err), err
    assert not Path("a.html").exists()


def test_a_run_writes_its_page_once_and_what_fails_costs_nothing(tmp_path, caplog):
    page = Workdir(make(tmp_path / "run", 0.75)).page
    page.write(lambda: "a page")
    page.write(lambda: "another")
    assert page.path.read_text() == "a page"
    page.write(lambda: "another", anew=True)
    assert page.path.read_text() == "another"
    page.path.unlink()

    def broken():
        raise UserError("no page today")

    page.write(broken)
    assert not page.path.exists() and "no page today" in caplog.text
