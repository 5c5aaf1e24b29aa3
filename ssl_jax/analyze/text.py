"""What analysis.json has, for people: the same facts, long lists cut short."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

_CLASSES = 20  # rows of the table
_SHOWN = 10  # names of a list


def of_data(found: Mapping) -> str:
    """All but the time."""
    return "\n".join(map(_readable, _lines(found)))


def _lines(found):
    if "counts" in found:
        yield from _table(found["counts"])
        yield from _balances(found["balance"])
    if "graph" in found:
        graph = found["graph"]
        yield (
            f"graph: {graph['nodes']:,} nodes, {graph['edges']:,} edges "
            f"({graph['without_edges']:,} nodes have none, one has "
            f"{graph['largest_degree']:,}), {graph['features']:,} features"
        )
        if graph["edges_within_a_class"] is not None:
            yield f"edges within a class: {graph['edges_within_a_class']:.1%}"
    if "files" in found:
        yield from _files(found["files"])
    if "channels" in found:
        yield from _pixels(found)
        yield from _copies(found["copies"])
    if found["unreadable"]:
        yield f"\n{len(found['unreadable']):,} images cannot be read:"
        lines = [f"  {bad['image']}: {bad['reason']}" for bad in found["unreadable"]]
        yield from _cut(lines)
    if found["warnings"]:
        yield "\nlook at this:"
        yield from (f"  - {warning}" for warning in found["warnings"])
    if found["stops"]:
        yield "\na run with this config would stop:"
        yield from (f"  - {mistake}" for mistake in found["stops"])


def _table(counts: Mapping) -> Iterator[str]:
    """A row for each class, a column for each split."""
    names = list(next(iter(counts.values()))["classes"])
    rows = [["class", *counts]]
    for name in names[:_CLASSES]:
        rows.append([name, *(f"{of['classes'][name]:,}" for of in counts.values())])
    if more := names[_CLASSES:]:
        sums = (sum(of["classes"][name] for name in more) for of in counts.values())
        rows.append([f"and {len(more):,} more", *(f"{total:,}" for total in sums)])
    unknown = [of["images"] - sum(of["classes"].values()) for of in counts.values()]
    if any(unknown):
        rows.append(["not known", *(f"{number:,}" for number in unknown)])
    rows.append(["all", *(f"{of['images']:,}" for of in counts.values())])
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first + " " * (widths[0] - _width(first))]
        cells += [f"{cell:>{w}}" for cell, w in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


def _balances(balances):
    for name, of_split in balances.items():
        ratio = of_split["ratio"]
        if ratio is None or ratio > 1.5:
            (most, high), (fewest, low) = of_split["most"], of_split["fewest"]
            yield (
                f"{name}: from {low:,} ({fewest}) to {high:,} ({most}) a class; always "
                f"{most} would be right in {of_split['largest_share']:.1%}"
            )


def _files(files):
    yield (
        f"\nfiles: {files['images']:,} images of {files['megabytes']:,.1f} MB "
        f"({_counted(files['formats'])}; modes {_counted(files['modes'])}), "
        f"{len(files['grey']):,} of them grey, {len(files['several_frames']):,} with "
        "several frames"
    )
    if sizes := files["sizes"]:
        named = [f"{n} {_size(sizes[n])}" for n in ("smallest", "median", "largest")]
        often = [f"{_size(s)} ({n:,})" for *s, n in sizes["most"][:3]]
        yield (
            f"sizes: {', '.join(named)}; {sizes['different']:,} different, most often "
            f"{', '.join(often)}"
        )
    if files["no_images"]:
        yield f"no images: {_counted(files['no_images'])}"


def _pixels(found):
    height, width, channels = found["shape"]
    form = "grey" if channels == 1 else "RGB"
    grey = f", {found['grey']:,} of them grey in all pixels" if channels > 1 else ""
    yield f"\nimages as a run has them: {width}x{height} {form}{grey}"
    of = found["channels"]
    mean, std = _numbers(of["mean"]), _numbers(of["std"])
    yield f"grey levels by channel: mean {mean}, std {std}"
    for name, fed in found["normalised"].items():
        fits = "fits" if fed["fits"] else "does not fit"
        yield (
            f"{name}: normalised to mean {_numbers(fed['mean'])}, std "
            f"{_numbers(fed['std'])}, which {fits}"
        )


def _copies(copies):
    exact, near = copies["exact"], copies["near"]
    yield (
        f"\nthe same pixels: {exact['images']:,} images in {len(exact['groups']):,} "
        "groups"
    )
    yield from _cut([f"  {' = '.join(group[:4])}" for group in exact["groups"]], 5)
    yield (
        f"nearly the same (signatures with a cosine of {near['cosine']} or more): "
        f"{near['images']:,} images in {len(near['pairs']):,} pairs"
    )
    pairs = [f"  {' ~ '.join(p['images'])} ({p['cosine']:.3f})" for p in near["pairs"]]
    yield from _cut(pairs, 5)
    if near["cosine"] > near["least"]:
        yield (
            f"  (images are alike by nature here: {near['images_at_least']:,} are near "
            f"one at {near['least']}, so that the level was raised)"
        )
    for across in copies["across"]:
        held_out, other = across["splits"]
        yield (
            f"{held_out} images among the {other} ones: {across['exact_images']:,} the "
            f"same, {across['near_images']:,} nearly"
        )


def of_time(found: Mapping) -> str:
    """How long the run would take, or why that is not known."""
    of_run = found["time"]
    if of_run is None:
        stops = "\n".join(f"  - {mistake}" for mistake in found["stops"])
        return _readable(f"no estimate of the time, as the run would stop:\n{stops}")
    device = f"{of_run['device']['count']} x {of_run['device']['kind']}"
    times = f", {of_run['runs']} trainings" if of_run["runs"] > 1 else ""
    lines = [
        f"the run would take about {duration(of_run['seconds'])} here ({device}{times})"
    ]
    for name, phase in of_run["phases"].items():
        lines.append(
            f"  {name}: {phase['algorithm']}, {duration(phase['seconds'])}: "
            f"{phase['steps']:,} steps of {1e3 * phase['seconds_per_step']:,.1f} ms "
            f"({phase['images_per_second']:,.0f} images/s), {phase['evaluations']:,} "
            f"evaluations of {phase['seconds_per_evaluation']:,.1f} s, "
            f"{phase['compile_seconds']:,.0f} s compiling"
        )
    if of_run["not_counted"]:
        lines.append(f"  not counted: {', '.join(of_run['not_counted'])}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h" or "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.1f} days"


def _cut(lines: Sequence[str], most: int = _SHOWN) -> list[str]:
    more = len(lines) - most
    rest = [f"  and {more:,} more"] if more > 0 else []
    return [*lines[:most], *rest]


def _counted(counts):
    shown = [f"{name or 'none'} {n:,}" for name, n in list(counts.items())[:_SHOWN]]
    return ", ".join(shown)


def _numbers(values):
    return ", ".join(
        f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}" for value in values
    )


def _size(size):
    return f"{size[0]:,}x{size[1]:,}"


def _width(text: str) -> int:
    """Columns that a terminal gives it."""
    text = unicodedata.normalize("NFC", text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _readable(text: str) -> str:
    """The name of a file may hold bytes that are no text, and no terminal takes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
