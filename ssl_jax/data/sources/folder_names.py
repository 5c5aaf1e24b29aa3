"""What the name of a folder says it is: a set of images, a class, or nobody's.

    train, val, test    sets, with a folder for each class: `train` in place of class
                        folders beside the others
    unlabeled           images without a label
    @eaDir, __MACOSX    what systems put among a user's files

A set is known in any case and form of its name, and `unlabelled` as well. "training"
and "testing" may be classes of a sport, and "valid" the one beside "invalid": such
words mean sets where one for `train` stands beside one for `val` or `test`. A near miss
of `unlabeled`, or a longer name with that in it ("unlabeled_images"), is refused and
not guessed at: it would be a class of its own. Of the short words there is no near
miss: "best" is a class, and so are "van" and "brain"; but not where folders with the
names of other classes lie in it, whatever it is called.
"""

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches

from ssl_jax.data.answers import NO_LABEL
from ssl_jax.data.image_names import is_text
from ssl_jax.errors import UserError

_SETS = {
    **dict.fromkeys(("train", "trainset"), "train"),
    **dict.fromkeys(("val", "valset", "validation", "validationset"), "val"),
    **dict.fromkeys(("test", "tests", "testset"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled"), "unlabeled"),
}
_BESIDE_EACH_OTHER = _SETS | {"training": "train", "valid": "val", "testing": "test"}
_NEAR = 0.85  # how like `unlabeled` a word is that can only be meant so
_SYSTEMS = (
    *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin"),
    *("system volume information", "lost+found", "__pycache__"),
)


def system(name: str) -> bool:
    """Whether a system has put the folder there: thumbnails, resource forks, waste."""
    return name.casefold() in _SYSTEMS


def form(name: str) -> str:
    """What names share that differ in case, blanks or Unicode form only."""
    name = unicodedata.normalize("NFC", name).casefold()
    return re.sub(r"\s", "", unicodedata.normalize("NFC", name))


def sets(root: str, names: Sequence[str]) -> dict[str, str]:
    """{"train" or "val" or "test" or "unlabeled": the folder of `names` that is it}.

    Raises:
      UserError: two folders are one set.
    """
    found = _meant(names, _BESIDE_EACH_OTHER)
    if "train" not in found or not found.keys() & {"val", "test"}:
        found = _meant(names, _SETS)
    for meant, of_name in found.items():
        if len(of_name) > 1:
            raise UserError(
                f"the folders {' and '.join(of_name)} in {root} are both {meant!r}: "
                "put all into one."
            )
    return {meant: of_name[0] for meant, of_name in found.items()}


def _meant(names, words):
    found = {}
    for name in names:
        if meant := words.get(_word(name)):
            found.setdefault(meant, []).append(name)
    return found


def _word(name: str) -> str:
    return re.sub(r"[-_.]", "", form(name))


def check_unlabeled(names: Sequence[str], where: str) -> None:
    """Raises UserError where one of the folders, which are to be classes, is nearly
    called `unlabeled`."""
    for name in names:
        word = _word(name)
        near = get_close_matches(word, ["unlabeled", "unlabelled"], 1, _NEAR)
        if near or "unlabel" in word:
            raise UserError(
                f"the folder {name!r} in {where} is nearly called 'unlabeled': if it "
                "holds the images without a label, call it so, or name it by "
                "config.data.unlabeled; if it is a class, give it a name that is less "
                "like it."
            )


def check_classes(class_names: Sequence[str], where: str) -> None:
    """Raises UserError where two of the names are one, or one says that there is no
    class.

    Args:
      where: who names them, for the message: "the folder photos", "labels.csv".
    """
    first = {}
    for name in class_names:
        if not is_text(name):
            raise UserError(
                f"the class {name!r} in {where} is not UTF-8, and cannot be shown: "
                "rename it, or save the file as CSV UTF-8."
            )
        if name.casefold() in NO_LABEL:
            raise UserError(
                f"{name!r} in {where} is no class, but says that there is no label: "
                "leave the label of such images empty, or put them into the folder "
                "`unlabeled` beside the class folders."
            )
        other = first.setdefault(form(name), name)
        if other != name:
            raise UserError(
                f"the classes {other!r} and {name!r} in {where} differ in case, blanks "
                "or Unicode form only: make them one, or rename one."
            )


def check_inside(class_name: str, inside: Sequence[str], others: Sequence[str]) -> None:
    """Raises UserError where folders inside a class folder are called as other classes:
    it is a set, by a name that is none of a set's.

    Args:
      inside: names of the folders that lie in it.
      others: the other classes.
    """
    forms = {form(name) for name in others}
    if called := [name for name in inside if form(name) in forms]:
        raise UserError(
            f"the class folder {class_name!r} has folders that are called as other "
            f"classes, {', '.join(map(repr, called[:3]))}: if it is a set of images, "
            "call it train, val or test; if it is a class, rename those in it."
        )
