"""Which images are there twice, by name: within a split, and across two of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ssl_jax.analyze import copies
from ssl_jax.analyze.copies import Pairs
from ssl_jax.analyze.pixels import Pixels

# What is held out, before what must not hold it.
_APART = (
    *(("test", of) for of in ("labeled", "unlabeled", "pool", "validation")),
    *(("validation", of) for of in ("labeled", "unlabeled", "pool")),
)
_SHOWN = 3  # images in a warning


class Images(NamedTuple):
    """All images of a data set, whatever they are for."""

    names: Sequence[str]
    sets: np.ndarray  # of each the split that it is in: "labeled", "test"
    labels: np.ndarray  # -1: not known
    class_names: tuple[str, ...]


def facts(images: Images, pixels: Pixels) -> dict:
    """The copies among them, as JSON holds it: `exact`, groups of names; `near`, pairs
    of names; `across` two splits, pairs whose first is the one held out; and those of
    them that `contradict` each other by their labels."""
    groups = copies.same(pixels.digest_N)
    alone = np.ones(len(images.names), bool)
    for group in groups:
        alone[group[1:]] = False
    rows = np.flatnonzero(alone)
    pairs, level, at_least = copies.near(pixels.signature_ND[rows])
    pairs = Pairs(rows[pairs.first_P], rows[pairs.second_P], pairs.cosine_P)
    # The surest first.
    order = np.argsort(-pairs.cosine_P, kind="stable")
    pairs = Pairs(*(part[order] for part in pairs))
    return {
        "exact": {
            "images": sum(map(len, groups)),
            "groups": [_named(images, group) for group in groups],
        },
        "near": {
            "cosine": level,
            "least": copies.LEVELS[0],
            "images_at_least": at_least,
            "images": len(np.union1d(pairs.first_P, pairs.second_P)),
            "pairs": [
                {"images": _named(images, (i, j)), "cosine": round(float(cosine), 4)}
                for i, j, cosine in zip(*pairs, strict=True)
            ],
        },
        "across": list(_across(images, groups, pairs)),
        "contradict": {
            "exact": [_told(images, g) for g in groups if _differ(images, g)],
            "near": [
                _told(images, (i, j))
                for i, j, _ in zip(*pairs, strict=True)
                if _differ(images, (i, j))
            ],
        },
    }


def _across(images, groups, pairs):
    for held_out, other in _APART:
        exact = []
        for group in groups:
            sets = images.sets[group]
            if held_out in sets and other in sets:
                first = group[sets == other][0]
                exact += [(row, first) for row in group[sets == held_out]]
        near = [
            (i, j) if images.sets[i] == held_out else (j, i)
            for i, j, _ in zip(*pairs, strict=True)
            if {images.sets[i], images.sets[j]} == {held_out, other}
        ]
        if exact or near:
            yield {
                "splits": [held_out, other],
                "exact_images": len({row for row, _ in exact}),
                "near_images": len({row for row, _ in near}),
                "exact": [_named(images, pair) for pair in exact],
                "near": [_named(images, pair) for pair in near],
            }


def _named(images, rows):
    return [images.names[row] for row in rows]


def _differ(images, rows):
    known = images.labels[list(rows)]
    return len(set(known[known >= 0].tolist())) > 1


def _told(images, rows):
    names = ("", *images.class_names)  # -1 is no label
    return {
        "images": _named(images, rows),
        "labels": [names[images.labels[row] + 1] for row in rows],
    }


def warnings(found: Mapping) -> Iterator[str]:
    """What of it spoils a result."""
    alike = found["near"]["cosine"] > found["near"]["least"]
    remove = (
        "Remove one of the two, or the accuracy is of what was learned by heart.",
        "Images are alike by nature here: look at them before you remove any.",
    )
    for across in found["across"]:
        held_out, other = across["splits"]
        for how, word in (("exact", ""), ("near", "nearly ")):
            if number := across[f"{how}_images"]:
                shown = [f"{a} is {word}{b}" for a, b in across[how][:_SHOWN]]
                yield (
                    f"{held_out} images that are {word}among the {other} ones: "
                    f"{number:,} ({_some(shown, len(across[how]))}). "
                    f"{remove[alike and how == 'near']}"
                )
    for how, word in (("exact", "the same"), ("near", "nearly the same")):
        if differ := found["contradict"][how]:
            shown = [
                " and ".join(f"{n} {label!r}" for n, label in _labelled(told))
                for told in differ[:_SHOWN]
            ]
            yield (
                f"different labels on {word} image: {len(differ):,} times "
                f"({_some(shown, len(differ))}). Look which is right."
            )


def _labelled(told):
    pairs = zip(told["images"], told["labels"], strict=True)
    return [pair for pair in pairs if pair[1]][:_SHOWN]


def _some(shown, total):
    more = total - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more" if more > 0 else "")
