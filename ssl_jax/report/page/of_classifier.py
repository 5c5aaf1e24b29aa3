"""The sections of a page that show what a run says of test images, one by one."""

from collections.abc import Iterator, Sequence

import numpy as np

from ssl_jax.report.page import blocks, numbers, svg
from ssl_jax.report.page.blocks import (
    Beside,
    Matrix,
    Missing,
    Note,
    Picture,
    Pictures,
    Plot,
    Plots,
    Section,
    Table,
    Tile,
)
from ssl_jax.report.page.found import Found, Phase, Said
from ssl_jax.report.page.numbers import Calibration

_MANY = 20  # classes: more have no matrix on the page
_CONFUSED = 20  # pairs of classes in a table
_SMALL = 48  # pixels a side of images that are shown as squares


def sections(run: Found, *, pictures: bool = True) -> list[Section]:
    """Of the last phase that classifies; one that says why, where nothing was kept.

    Args:
      pictures: the surest mistakes, and what is right and least sure.
    """
    phase = _judged(run)
    if phase is None:
        text = _why_not(run)
        return [Section("Test images", [Missing(text)])] if text else []
    said = phase.said
    shown = [
        Section("Classes", [*_of_which(run, phase), *_classes(run, said)]),
        Section("Calibration", list(_calibration(said))),
    ]
    if pictures:
        shown.append(Section("Pictures", list(_pictures(run, said))))
    return shown


def has_pictures(run: Found) -> bool:
    """Whether there are test images to show."""
    phase = _judged(run)
    return phase is not None and len(phase.said.rows) > 0


def tiles(run: Found) -> list[Tile]:
    phase = _judged(run)
    if phase is None:
        return []
    logits_MK, labels_M = phase.said.logits["test"], phase.said.labels["test"]
    right, M = int((logits_MK.argmax(1) == labels_M).sum()), len(labels_M)
    low, high = numbers.wilson(right, M)
    *_, f1 = numbers.means(numbers.per_class(_counts(phase.said)))
    right_of = f"right, of {phase.name}" if len(run.phases) > 1 else "right"
    found = [
        Tile(right_of, f"{right:,} of {M:,}", f"95%: {low:.1%} to {high:.1%}"),
        Tile("mean F1", f"{f1:.2%}", "of the classes"),
    ]
    scaled = numbers.scaled(phase.said.logits, phase.said.labels)
    if scaled is not None:
        after = f"{scaled.after.ece:.3f} at temperature {scaled.after.temperature:.2f}"
        found.append(Tile("calibration error", f"{scaled.before.ece:.3f}", after))
    return found


def _judged(run) -> Phase | None:
    with_it = [
        phase for phase in run.phases if phase.said and "test" in phase.said.logits
    ]
    return with_it[-1] if with_it else None


def _why_not(run):
    """Why there are no predictions; "" where nobody would look for some."""
    if run.result is None or "accuracy" not in run.result["test"]:
        return ""
    if run.config.get("num_seeds", 1) > 1:
        return (
            "Classes, calibration and pictures are missing: seeds that are trained at "
            "once keep no predictions. Train one with num_seeds=1 and --config.seed."
        )
    if run.config.get("query", {}).get("rounds", 0):
        return (
            "Classes, calibration and pictures are on the pages of the rounds, each a "
            "workdir of its own: round1, round2 and so on."
        )
    if not any(phase.trains and phase.entry for phase in run.phases[-1:]):
        return ""  # a probe was judged last
    return (
        "Classes, calibration and pictures are missing: the phase has kept no "
        "predictions (said.npz in its folder), as runs of older versions did not; "
        "train it again with this one."
    )


def _of_which(run, phase) -> list:
    """Which phase it is, where there are others: a probe after it says other things."""
    if len(run.phases) == 1:
        return []
    return [Note(f"All that follows of test images is what {phase.name} says of them.")]


def _names(run, K):
    """Of the classes; their numbers, where the workdir does not know them."""
    return run.class_names if len(run.class_names) == K else tuple(map(str, range(K)))


def _counts(said: Said):
    logits_MK, labels_M = said.logits["test"], said.labels["test"]
    return numbers.confusion(labels_M, logits_MK.argmax(1), logits_MK.shape[1])


def _classes(run, said) -> Iterator:
    counts_KK = _counts(said)
    K, names = len(counts_KK), _names(run, len(counts_KK))
    images_K, matrix = counts_KK.sum(1), []
    if K <= _MANY:
        share_KK = (100 * counts_KK / images_K.clip(1)[:, None]).round().astype(int)
        rows = [
            list(zip(map(int, counts), map(int, shares), strict=True))
            for counts, shares in zip(counts_KK, share_KK, strict=True)
        ]
        caption = "Test images by their true class (rows) and what is said (columns)"
        matrix.append(Matrix(names, rows, caption))
    else:
        yield Note(f"{K:,} classes are too many for a matrix; these are confused most:")
    if K > _MANY:
        yield from _confused(counts_KK, names)
    of = numbers.per_class(counts_KK)
    granted = (
        run.result["data"]["classes"] if run.result and "data" in run.result else {}
    )
    worst = sorted(range(K), key=lambda k: (of.f1[k], k)) if K > _MANY else range(K)
    rows = [
        [
            names[k],
            f"{granted[names[k]]:,}" if names[k] in granted else "",
            f"{of.images[k]:,}",
            f"{of.predicted[k]:,}",
            f"{of.accuracy[k]:.1%}",
            f"{of.precision[k]:.1%}",
            f"{of.f1[k]:.1%}",
        ]
        for k in worst
    ]
    total = f"{images_K.sum():,}"
    labels = f"{sum(granted.values()):,}" if granted else ""
    rows.append(["all", labels, total, total, *(f"{x:.1%}" for x in numbers.means(of))])
    header = ["class", "labels", "test", "said", "accuracy", "precision", "F1"]
    order = ", the worst F1 first" if K > _MANY else ""
    caption = f"Each class{order}; the last row: means over the classes"
    folded = f"all {K:,} classes" if K > _MANY else ""
    table = Table(header, rows, caption, folded)
    yield Beside([*matrix, table]) if matrix else table
    yield Note(
        "labels: images to train on whose label was granted; test: images of the class "
        "to test on; said: test images that are said to be of it; accuracy: of the "
        "class's images, those said to be (recall); precision: of those said to be, "
        "those that are; F1: their harmonic mean."
    )


def _confused(counts_KK, names):
    wrong_KK = counts_KK - np.diag(np.diag(counts_KK))
    pairs = [(int(wrong_KK[a, b]), a, b) for a, b in np.argwhere(wrong_KK)]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [
        [names[a], names[b], f"{n:,}", f"{n / counts_KK[a].sum():.1%}"]
        for n, a, b in pairs[:_CONFUSED]
    ]
    header = ["true class", "said to be", "images", "of the class"]
    return [Table(header, rows)] if rows else []


def _calibration(said) -> Iterator:
    scaled = numbers.scaled(said.logits, said.labels)
    if scaled is None:
        yield Missing("One test image is too few to find a temperature and to show it.")
        return
    before, after = scaled.before, scaled.after
    ends = 1.01 * numbers.LOWEST, numbers.HIGHEST / 1.01
    if not ends[0] < after.temperature < ends[1]:
        yield Missing(
            f"The temperature is at an end of those that are tried ({numbers.LOWEST} "
            f"to {numbers.HIGHEST:g}), as where all that it is found on is right, or "
            "no more than by chance: it says no more than that."
        )
    yield Note(
        f"A temperature of {after.temperature:.2f}, found on {scaled.found_on}, "
        f"divides the logits; both are shown on {scaled.shown_on}. It moves no "
        "prediction. A bar below the dashed line: surer than right. ECE: expected "
        "calibration error over 15 bins; NLL: negative log-likelihood; of all three, "
        "lower is better."
    )
    yield Plots([_reliability("before", before), _reliability("after", after)])
    rows = [
        [
            word,
            f"{of.temperature:.2f}",
            f"{of.ece:.4f}",
            f"{of.nll:.4f}",
            f"{of.brier:.4f}",
        ]
        for word, of in (("before", before), ("after", after))
    ]
    header = ["", "temperature", "ECE", "NLL", "Brier"]
    yield Table(header, rows)


def _reliability(word: str, of: Calibration) -> Plot:
    caption = f"{word}: calibration error (ECE) {of.ece:.3f}"
    of_bins = of.count_M, of.confidence_M, of.accuracy_M
    drawn = svg.reliability(*of_bins, f"Share right by confidence, {caption}.")
    M = len(of.count_M)
    rows = [
        [f"{m / M:.0%} to {(m + 1) / M:.0%}", f"{n:,}", f"{sure:.1%}", f"{right:.1%}"]
        for m, (n, sure, right) in enumerate(zip(*of_bins, strict=True))
        if n
    ]
    header = ["confidence", "images", "mean confidence", "right"]
    return Plot(caption, drawn, numbers=Table(header, rows, folded="its numbers"))


def _pictures(run, said) -> Iterator:
    logits_MK, labels_M = said.logits["test"], said.labels["test"]
    if not len(said.rows):
        return
    probs_MK = np.exp(numbers.log_softmax(logits_MK))
    names = _names(run, logits_MK.shape[1])
    small = max(said.images_NHWC.shape[1:3]) <= _SMALL
    groups = {True: [], False: []}
    for row, image_HWC in zip(said.rows, said.images_NHWC, strict=True):
        probs_K, truth = probs_MK[row], int(labels_M[row])
        right = bool(probs_K.argmax() == truth)
        groups[right].append(_picture(int(row), image_HWC, probs_K, truth, names))
    wrong = int((logits_MK.argmax(1) != labels_M).sum())
    if groups[False]:
        count = len(groups[False])
        caption = f"The surest mistakes, {count} of {wrong:,}"
        yield Pictures(caption, groups[False], small)
    else:
        yield Note("No test image is said to be of another class than it is.")
    if groups[True]:
        yield Pictures("Right, and least sure", groups[True], small)


def _picture(row, image_HWC, probs_K, truth, names: Sequence[str]) -> Picture:
    first = int(probs_K.argmax())
    said = f"{names[first]} {probs_K[first]:.1%}"
    if first == truth:
        second = int(np.argsort(-probs_K)[1])
        lines = [said, f"or {names[second]} {probs_K[second]:.1%}"]
    else:
        lines = [f"said {said}", f"is {names[truth]} {probs_K[truth]:.1%}"]
    alt = f"test image {row}: {', '.join(lines)}"
    return Picture(blocks.image(image_HWC), alt, [*lines, f"image {row}"])
