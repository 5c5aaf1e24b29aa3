"""Names of users, as figures show them."""

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ssl_jax.report.figures import active, curves, images, pseudo_labels
from ssl_jax.workdir import lettering
from ssl_jax.workdir.workdir import Workdir

# A formula that is none, three scripts of which matplotlib's font has one, a picture,
# a name that is not UTF-8, what is invisible, and what a legend would leave out.
NAMES = ("$50_$100", "猫", "Кошка", "😀\U000e0061", "caf\udce9", "a\tb\\$", "_private")
SHOWN = ("$50_$100", r"\u732b", "Кошка", "😀", r"caf\udce9", r"a\tb\$", "_private")


@pytest.fixture
def no_other_font(monkeypatch):
    monkeypatch.setattr(lettering, "_family", lambda *_: None)


@pytest.mark.parametrize("name, shown", [*zip(NAMES, SHOWN, strict=True)])
def test_names_are_drawn_as_they_are_or_else_readable(name, shown, no_other_font):
    assert lettering.readable(name, FontProperties()) == (shown, [])


def test_a_character_is_drawn_by_a_font_that_has_it():
    own = font_manager.findfont(FontProperties())
    other = font_manager.findfont(FontProperties(family="STIXNonUnicode"))
    there, more = (
        set(font_manager.get_font(path).get_charmap()) for path in (own, other)
    )
    character = chr(min(more - there))
    text, families = lettering.readable(f"a{character}", FontProperties())
    assert text == f"a{character}" and len(families) == 1
    found = font_manager.findfont(FontProperties(family=families[0]))
    assert font_manager.get_font(found).get_char_index(ord(character))
    assert not families[0].startswith("Last Resort")


def test_any_figure_draws_any_name(tmp_path, no_other_font):
    """A warning of matplotlib's (a glyph that is missing) fails the test."""
    K, title = len(NAMES), "my $run_$ 猫"
    row = {"train/kept_per_class": np.arange(K), "train/share_kept": 1.0}
    row |= {"train/threshold_per_class": np.arange(K), "step": 1}
    row |= {"train/predicted_per_class": np.arange(K)}
    asked = {"image": NAMES[4], "predicted": NAMES[0], "probability": "1"}
    image_HWC, points_M2 = np.zeros((8, 8, 1), np.uint8), np.zeros((K, 2))
    figures = {
        "confusion": curves.confusion_matrix(np.eye(K), NAMES, title),
        "classes": pseudo_labels.pseudo_label_classes([row], NAMES, title),
        "counts": pseudo_labels.pseudo_label_counts(row, NAMES, title),
        "map": images.feature_map({"PCA": points_M2}, np.arange(K), NAMES, title),
        "questions": active.question_sheet([image_HWC], [asked], title),
    }
    Workdir(tmp_path).draw("t", {kind: lambda f=f: f for kind, f in figures.items()})
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {f"t_{kind}.png" for kind in figures}
    for kind in ("confusion", "counts"):
        ticks = figures[kind].axes[0].get_xticklabels()
        assert [tick.get_text() for tick in ticks] == list(SHOWN)
    legend = figures["classes"].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == list(SHOWN)
    assert figures["map"].get_suptitle() == r"my $run_$ \u732b"


def test_numbers_of_a_logarithmic_axis_stay_formulae():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [1, 1000])
    axes.set(yscale="log", title="$x$")
    lettering.literal(figure)
    assert not axes.title.get_parse_math()
    assert all(tick.get_parse_math() for tick in axes.get_yticklabels())
