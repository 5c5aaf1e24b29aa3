"""The texts of a figure, drawn as they are.

Names are the user's: of a run, a class, a file. matplotlib takes `$50_$100` for a
formula, and warns of characters that its font has not. Every figure passes `literal` on
its way to a file, so that no function that draws one has to think of it.
"""

import functools
import unicodedata

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter

_LAST_RESORT = "Last Resort"  # begins the name of a font of boxes for all characters


def literal(figure: Figure) -> None:
    """Changes the figure's texts so that none is a formula, and that a character which
    their font has not is drawn by a font of the machine's that has it. Where there is
    none, and where it is no character at all (of a file name that is not UTF-8), its
    number stands for it, as in Python: `\\u732b`."""
    numbers = set()  # on axes: matplotlib's own, which are formulae on logarithmic ones
    for axis in figure.findobj(Axis):
        labels = axis.get_ticklabels()
        if _are_names(axis):  # which a drawing would write anew
            font = labels[0].get_fontproperties()
            axis.set_ticklabels([readable(t.get_text(), font)[0] for t in labels])
        else:
            numbers |= {*labels, *axis.get_ticklabels(minor=True)}
            numbers.add(axis.get_offset_text())
    for text in set(figure.findobj(Text)) - numbers:
        text.set_parse_math(False)
        written, families = readable(text.get_text(), text.get_fontproperties())
        text.set_text(written)
        text.set_fontfamily([*text.get_fontfamily(), *families])


def readable(text: str, font: FontProperties) -> tuple[str, list[str]]:
    """The text as it can be drawn, and the families of fonts beside `font`'s own that
    have the rest of its characters."""
    own, written, families = font_manager.findfont(font), [], {}
    for character in text:
        if character == "\n" or _has(own, character):
            written.append(character)
        elif family := _family(character, font.get_weight()):
            written.append(character)
            families[family] = True
        elif not _is_invisible(character):
            written.append(character.encode("unicode_escape").decode())
    return "".join(written), list(families)


def _is_invisible(character):
    """A joiner or a selector of another form, say."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _are_names(axis):
    """Whether the axis has ticks with texts that it was given."""
    fixed = isinstance(axis.get_major_locator(), FixedLocator)
    return fixed and isinstance(axis.get_major_formatter(), FuncFormatter)


@functools.cache  # of all fonts of a machine, of which there may be hundreds
def _family(character, weight):
    """Of the first font that has it; None where none does."""
    for entry in font_manager.fontManager.ttflist:
        if entry.name.startswith(_LAST_RESORT) or not _has(entry.fname, character):
            continue
        # The family's in that weight may be another file.
        font = FontProperties(family=entry.name, weight=weight)
        if _has(font_manager.findfont(font), character):
            return entry.name
    return None


def _has(path, character):
    return font_manager.get_font(path).get_char_index(ord(character)) != 0
