"""Active learning: which images are asked about, that no answer is lost, and that a
simulation is what a user would do by hand."""

import csv
import json
import shutil

import numpy as np
import pytest

from configs import active_digits
from ssl_jax.active import questions, rounds, strategies
from ssl_jax.data import sources
from ssl_jax.data.sources import digits
from ssl_jax.data.splits import candidates
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.report.figures import active, curves
from ssl_jax.train import restored, sections
from ssl_jax.train.run import run
from ssl_jax.workdir.workdir import Workdir

# Every strategy puts these in another order; rows 0 and 3 are equally confident.
PROBS_NK = np.float32(
    [[0.5, 0.5, 0], [0.4, 0.3, 0.3], [0.8, 0.1, 0.1], [0.5, 0.3, 0.2]]
)


def test_scores_by_hand():
    # ln 2; -.4 ln .4 - .6 ln .3; -.8 ln .8 - .2 ln .1; -.5 ln .5 - .3 ln .3 - .2 ln .2
    entropy_N = [0.693147, 1.088900, 0.639032, 1.029653]
    np.testing.assert_allclose(strategies.entropy(PROBS_NK), entropy_N, atol=1e-6)
    np.testing.assert_allclose(
        strategies.margin(PROBS_NK), [0, 0.1, 0.7, 0.2], atol=1e-6
    )
    confident_N = strategies.least_confidence(PROBS_NK)
    np.testing.assert_allclose(confident_N, [0.5, 0.6, 0.2, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    "strategy, order",
    [("entropy", [1, 3, 0, 2]), ("margin", [0, 1, 3, 2])]
    + [("least_confidence", [1, 0, 3, 2])],  # of the equal ones the lower index
)
def test_choose_never_repeats_and_never_asks_what_it_knows(strategy, order):
    pool = np.array([10, 20, 30, 40])

    def chosen(size, places, labeled=()):
        return strategies.choose(
            strategy, size, pool[places], labeled, probs_NK=PROBS_NK[places]
        ).tolist()

    assert chosen(4, [0, 1, 2, 3]) == pool[order].tolist()
    assert chosen(4, [3, 1, 0, 2, 1, 0]) == pool[order].tolist()
    known, *others = pool[order]
    assert chosen(3, [0, 1, 2, 3], [known, 99]) == others
    with pytest.raises(UserError, match="query.size=4, but 3 images"):
        chosen(4, [0, 1, 2, 3], [known])


def _farthest(features_ND, centers_LD, size):
    """Algorithm 1 of arXiv:1708.00489, with all distances in float64."""
    centers, picked = [*np.float64(centers_LD)], []
    features_ND = np.float64(features_ND)
    for _ in range(size):
        nearest = [min(((row - c) ** 2).sum() for c in centers) for row in features_ND]
        for index in picked:
            nearest[index] = -1
        picked.append(max(range(len(nearest)), key=lambda i: (nearest[i], -i)))
        centers.append(features_ND[picked[-1]])
    return picked


def test_k_center_is_the_greedy_cover(monkeypatch):
    monkeypatch.setattr(strategies, "_BLOCK", 16)
    rng = np.random.default_rng(0)
    features_ND = rng.integers(0, 4, (50, 3))  # whole numbers: many ties, no rounding
    centers_LD = features_ND[[7, 8]]
    picked = strategies.k_center(features_ND, centers_LD, 50)
    assert picked.tolist() == _farthest(features_ND, centers_LD, 50)
    assert sorted(picked) == list(range(50))  # though rows coincide
    for offset, unit in ((1_700_000_000, 1), (0, 2.0**60), (0, 2.0**-70)):
        moved = [offset + unit * x for x in (features_ND, centers_LD)]
        np.testing.assert_array_equal(strategies.k_center(*moved, 9), picked[:9])


def test_k_center_without_a_label_begins_in_the_middle():
    features_ND = np.array([[9.0, 0], [1, 0], [0, 1], [0, 8]])  # mean 2.5, 2.25
    for offset in (0, 1e8):
        moved = features_ND + offset
        for size in range(5):
            picked = strategies.k_center(moved, moved[:0], size)
            assert picked.tolist() == [1, 3, 0, 2][:size]


def test_typical_asks_for_the_middle_of_each_cluster_and_for_no_outlier():
    """Three clusters of 9, 7 and 8 rows on a line each, and one row far from all."""
    line = np.arange(9.0)[:, None] * [[1.0, 0.5]]
    features_ND = np.concatenate(
        [line, 90 + line[:7], [90, -90] + line[:8], [[999, 999]]]
    )
    none_LD = features_ND[:0]
    assert strategies.typical(features_ND, none_LD, 0).tolist() == []
    picked = strategies.typical(features_ND, none_LD, 4).tolist()
    # Of 9 the middle; of 8 either of two; the row alone only when nothing else is left.
    assert picked[0] == 4 and set(picked[1:3]) <= {12, 19, 20} and 24 not in picked
    # Where a cluster has a label, the others come first.
    labeled_LD = features_ND[[3, 20]]
    assert strategies.typical(features_ND[:24], labeled_LD, 1).tolist() == [12]
    everything = strategies.typical(features_ND, none_LD, 25).tolist()
    assert sorted(everything) == [*range(25)]
    shifted = strategies.typical(1e6 + 1e3 * features_ND, none_LD, 4)
    assert shifted.tolist() == strategies.typical(features_ND, none_LD, 4).tolist()


def test_random_repeats_itself_but_not_its_rounds():
    def drawn(seed, num_labeled):
        labeled = np.arange(100, 100 + num_labeled)
        return strategies.choose("random", 5, np.arange(100), labeled, seed=seed)

    first = drawn(0, 10)
    np.testing.assert_array_equal(first, drawn(0, 10))
    assert len(set(first)) == 5
    assert set(first) != set(drawn(0, 15)) and set(first) != set(drawn(1, 10))


def test_mistakes_are_told():
    with pytest.raises(UserError, match="'entropie' is unknown; choose entropy, "):
        strategies.check("entropie", 5)
    with pytest.raises(UserError, match="query.size=0"):
        strategies.check("entropy", 0)
    probs_NK = np.where(np.arange(4)[:, None] == 1, np.nan, PROBS_NK)
    pool = np.array([10, 20, 30, 40])
    with pytest.raises(UserError, match="probs of image 20 are not finite"):
        strategies.choose("entropy", 1, pool, [], probs_NK=probs_NK)


def _config():
    config = active_digits.get_config("debug")
    config.data.update(num_unlabeled=80)  # the 20 labeled ones among them
    config.query.update(rounds=2, size=3)
    config.train.steps_per_call = 1  # two are compiled unrolled
    return config


@pytest.fixture(scope="module", autouse=True)
def without_curves():
    """A phase's own figures are test_loop's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "of_phase", lambda *_: {})
        yield


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("active") / "simulated"
    return workdir, rounds.simulate(_config(), workdir)


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _fill(path, rows):
    with path.open("w", newline="") as file:
        written = csv.DictWriter(file, questions.COLUMNS)
        written.writeheader()
        written.writerows(rows)


def test_a_user_who_answers_like_the_oracle_gets_its_rounds(
    simulated, tmp_path, capsys
):
    workdir, result = simulated
    by_hand = _config()
    by_hand.query.rounds = 0
    first = tmp_path / "first"
    shutil.copytree(workdir / "round1", first)
    (first / "queries.csv").unlink()
    questions.ask(by_hand, first)
    assert f"--config.data.labels={first / 'queries.csv'}" in capsys.readouterr().out
    asked_rows = _rows(first / "queries.csv")

    trained = restored.load(sections.parse(by_hand), Workdir(first))
    dataset, index_N = trained.data.dataset, candidates(trained.data.split)
    probs_NK = np.float64(restored.classifier(trained)(dataset.images_NHWC, index_N))
    entropy_N = -(probs_NK * np.log(np.maximum(probs_NK, 1e-300))).sum(axis=1)
    asked = sorted(range(len(index_N)), key=lambda i: (-entropy_N[i].round(5), i))[:3]
    assert {row["image"] for row in asked_rows} == {str(index_N[i]) for i in asked}
    for row in asked_rows:
        at = np.searchsorted(index_N, int(row["image"]))
        assert row["predicted"] == str(probs_NK[at].argmax()) and row["label"] == ""
        assert float(row["probability"]) == pytest.approx(probs_NK[at].max(), abs=1e-4)
        assert float(row["entropy"]) == pytest.approx(entropy_N[at], abs=1e-3)

    right_N = probs_NK.argmax(axis=1) == dataset.labels_N[index_N]
    entry = result["rounds"][0]
    assert entry["labels"] == 20 and entry["unlabeled"] == len(index_N) == 60
    assert entry["accuracy"] == entry["report"]["accuracy"] == right_N.mean()
    assert np.trace(entry["confusion"]) == right_N.sum()

    # Questions that nobody answered may be replaced; an answer may not.
    by_hand.query.strategy = "k_center"
    questions.ask(by_hand, first)
    pixels_ND = dataset.images_NHWC.reshape(len(dataset.labels_N), -1)
    spread = _farthest(pixels_ND[index_N], pixels_ND[trained.data.split.labeled], 3)
    assert [int(row["image"]) for row in _rows(first / "queries.csv")] == [
        *index_N[spread]
    ]
    for row in asked_rows:
        row["label"] = str(dataset.labels_N[int(row["image"])])
    _fill(first / "queries.csv", asked_rows)
    with pytest.raises(UserError, match="holds 3 answers .* line 2"):
        questions.ask(by_hand, first)
    assert _rows(first / "queries.csv") == asked_rows

    second = tmp_path / "second"
    by_hand.data.labels = str(first / "queries.csv")
    by_hand.query.strategy = "entropy"
    trained_by_hand = run(by_hand, second)
    assert trained_by_hand["test"] == result["rounds"][1]["test"] == result["test"]
    assert result["rounds"][1]["labels"] == 23
    assert len(result["rounds"][1]["queried"]) == 3  # asked, and learned by no round

    questions.ask(by_hand, second)
    rows = _rows(second / "queries.csv")
    assert [(row["image"], row["label"]) for row in rows[:3]] == [
        (row["image"], row["label"]) for row in asked_rows
    ]
    asked_now = {row["image"] for row in rows[3:]}
    assert len(asked_now) == 3 and not asked_now & {row["image"] for row in asked_rows}
    assert all(row["label"] == "" for row in rows[3:])
    assert (second / "figures" / "queries.png").stat().st_size > 0


def test_a_figure_of_a_finished_simulation_that_failed_is_drawn(simulated, tmp_path):
    workdir = tmp_path / "simulated"
    shutil.copytree(simulated[0], workdir)
    drawn = {path.name for path in (workdir / "figures").iterdir()}
    (name,) = (name for name in drawn if name.endswith("_rounds.png"))
    failed = workdir / "figures" / name.replace(".png", ".failed.txt")
    (workdir / "figures" / name).rename(failed)
    before = (workdir / "result.json").read_bytes()
    assert rounds.simulate(_config(), workdir) == simulated[1]
    assert {path.name for path in (workdir / "figures").iterdir()} == drawn
    assert (workdir / "result.json").read_bytes() == before


def test_a_killed_simulation_goes_on_with_its_next_round(simulated, tmp_path, capsys):
    calm, result = simulated
    workdir = tmp_path / "simulated"
    shutil.copytree(calm, workdir)
    (workdir / "result.json").unlink()
    shutil.rmtree(workdir / "round2")
    before = (workdir / "round1" / "train" / "done.json").stat().st_mtime_ns
    resumed = rounds.simulate(_config(), workdir)
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [
        f"round 1 of 2, in {workdir}/round1",
        f"{workdir}/round1 is over already; this is its result",
        f"round 2 of 2, in {workdir}/round2",
    ]
    assert (workdir / "round1" / "train" / "done.json").stat().st_mtime_ns == before
    assert resumed["rounds"] == result["rounds"] and resumed["resumed"] == 1
    assert json.loads((workdir / "result.json").read_text()) == resumed
    assert rounds.simulate(_config(), workdir) == resumed
    other = _config()
    other.query.size = 4
    with pytest.raises(UserError, match="query.size = 3 there, 4 here"):
        rounds.simulate(other, workdir)


def test_an_oracle_must_know_and_leave_something(tmp_path, monkeypatch):
    config = _config()
    config.query.size = 60
    with pytest.raises(UserError, match="120 labels, and 60 images have none"):
        rounds.simulate(config, tmp_path / "run")
    dataset = sources.load("digits")
    labels_N = np.where(np.arange(len(dataset.labels_N)) < 1000, dataset.labels_N, -1)
    unknown = dataset._replace(labels_N=labels_N.astype(np.int32))
    monkeypatch.setattr(digits, "load", lambda *_: unknown)
    with pytest.raises(UserError, match="the oracle .* is the truth"):
        rounds.simulate(_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_image_that_went_after_it_was_asked_about_is_white():
    dataset = sources.load("digits")
    named = dataset._replace(names_N=tuple(f"{i}.png" for i in range(1, 1298)))
    asked = ["2.png", "gone.png", "1.png"]
    shown = rounds.images(Wanted(), named, asked)
    white_HWC = np.full((8, 8, 1), 255)
    expected = [dataset.images_NHWC[1], white_HWC, dataset.images_NHWC[0]]
    np.testing.assert_array_equal(shown, expected)
    assert len(rounds.images(Wanted(), dataset, ["5", "7"])) == 2


def test_many_questions_fill_sheets_and_old_sheets_go(tmp_path, monkeypatch):
    monkeypatch.setattr(active, "_SHEET", 2)
    row = {"image": "a/long/path/of/an/image.png", "predicted": "3", "probability": "1"}
    images = [np.zeros((8, 8, 1), np.uint8), np.zeros((12, 30, 3), np.uint8)] * 2
    workdir, folder = Workdir(tmp_path), tmp_path / "figures"
    sheets = active.question_sheets(images.__getitem__, [row] * 3, "title")
    written = workdir.draw_pages("queries", sheets)
    assert written == [folder / "queries.png", folder / "queries_2.png"]
    # A sheet that cannot be drawn is left out, and costs neither the others nor a run.
    sheets = active.question_sheets(images.__getitem__, [row, row, {}], "title")
    assert workdir.draw_pages("queries", sheets) == [folder / "queries.png"]
    assert [file.name for file in folder.iterdir()] == ["queries.png"]
