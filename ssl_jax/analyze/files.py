"""Image files: their formats and sizes, and those that cannot be read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ssl_jax.data.survey import File, Survey

_MOST = 10  # sizes that are listed


def facts(survey: Survey) -> dict:
    """Of the files of a data set, as JSON holds it."""
    files = survey.files
    return {
        "images": len(files),
        "megabytes": round(sum(file.nbytes for file in files) / 1e6, 3),
        "formats": _counted(file.format for file in files),
        "modes": _counted(file.mode for file in files),
        "grey": [file.name for file in files if file.grey],
        "several_frames": [file.name for file in files if file.several],
        "sizes": sizes(files),
        "no_images": dict(survey.others.most_common()),
    }


def _counted(values):
    return dict(Counter(values).most_common())


def sizes(files: Sequence[File]) -> dict | None:
    """Width and height in pixels, as EXIF turns the images; None without any."""
    if not files:
        return None
    counted = Counter((file.width, file.height) for file in files)
    by_area = sorted(files, key=lambda file: file.width * file.height)
    ends = by_area[0], by_area[len(by_area) // 2], by_area[-1]
    named = zip(("smallest", "median", "largest"), ends, strict=True)
    return {
        "different": len(counted),
        **{name: [file.width, file.height] for name, file in named},
        "most": [[*size, n] for size, n in counted.most_common(_MOST)],
    }


def warnings(survey: Survey, image_size: int) -> Iterator[str]:
    """What of it should be looked at before a run."""
    if survey.unreadable:
        first, reason = survey.unreadable[0]
        yield (
            f"images that cannot be read, and are left out: "
            f"{len(survey.unreadable):,} ({first}: {reason})."
        )
    greys = sum(file.grey for file in survey.files)
    if 0 < greys < len(survey.files):
        yield (
            f"grey files among coloured ones, all of which become RGB: {greys:,} of "
            f"{len(survey.files):,}. If they are of some classes alone, that gives "
            "these away."
        )
    sides = np.array([min(file.height, file.width) for file in survey.files])
    if small := int((sides < image_size).sum()):
        yield (
            f"images with a side below data.image_size={image_size}, which are "
            f"enlarged: {small:,}."
        )


def unreadable(survey: Survey) -> list[Mapping[str, str]]:
    return [{"image": name, "reason": why} for name, why in survey.unreadable]
