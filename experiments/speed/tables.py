"""What was measured here, as tables of docs/results.md and a figure; imports nothing
that measures it, such as JAX or PyTorch."""

import statistics

import numpy as np
from matplotlib.figure import Figure

from ssl_jax.report import formats
from ssl_jax.report.figures import drawing
from ssl_jax.workdir.results import Table

BENCHMARK = "fixmatch_mnist_cpu"  # of benchmark.py's results, the one shown

# Of peers.py: the works, and what a step of each is. README has SHOWN, kept as "cpu".
PEERS = "cpu"
NOT_MEASURED = "Not measured yet: `python -m experiments.speed.peers --keep=cpu`."
WORKS = {
    "wrn64": "supervised, WRN-28-2",
    "fixmatch": "FixMatch, WRN-28-2",
    "fixmatch_nograd": "the same, weak view without gradient",
    "mobilenet": "supervised, MobileNet",
    "byol32": "BYOL, ResNet-18, 32 px",
    "byol96": "BYOL, ResNet-18, 96 px",
    "convnet_mnist": "FixMatch, MNIST's convnet",
    "convnet_mnist_network": "the same without augmentation",
    "digits": "FixMatch, digits' convnet",
}
SHOWN = [work for work in WORKS if work not in ("convnet_mnist_network", "digits")]

# Of benchmark_gcn.py.
FORMS = {
    "ssl_jax": "ssl_jax",
    "pyg_dense": "PyTorch Geometric, dense features as in its example",
    "pyg_sparse": "PyTorch Geometric, sparse features",
    "pyg_sparse_adjacency": "PyTorch Geometric, sparse features and adjacency",
}

# Of label_spreading_scale.py.
PARTS = ("mnist_rbf", "mnist_knn", "million", "scale")
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
# Of the same rows: the sizes at which a line of the figure is measured. Past its last,
# scikit-learn's rbf holds several matrices of 8 N^2 bytes, 80 GB each at 100,000, and
# the time of its neighbours grows with the square of the rows.
LINES = {
    "ssl_jax knn": SIZES,
    "scikit-learn knn": (10_000, 30_000, 100_000, 300_000),
    "ssl_jax rbf": (10_000, 20_000, 30_000),
    "scikit-learn rbf": (10_000, 20_000, 30_000),
}
NEIGHBORS, FEATURES = 7, 64
BAYES = 0.996  # of the clusters, measured on 30,000
GIB = 2**30


def benchmark(results: Table) -> str:
    """The one shown."""
    return of_benchmark(results[BENCHMARK][0])


def of_benchmark(results: dict) -> str:
    columns = {
        "devices": "{:d}",
        "steps_per_second": "{:.2f}",
        "bare_steps_per_second": "{:.2f}",
        "loop_to_bare": "{:.3f}",
        "images_per_second": "{:,.0f}",
        "augmented_images_per_second": "{:,.0f}",
        "compile_seconds": "{:.1f}",
        "peak_memory_bytes": "{:,d}",
        "scaling_efficiency": "{:.2f}",
    }
    rows = [
        [form.format(run[name]) for name, form in columns.items()]
        for run in results["runs"]
    ]
    header = [name.replace("_", " ") for name in columns]
    lines = [formats.markdown_table(header, rows)]
    if all("where" in run for run in results["runs"]):  # not measured once
        lines.append(f"\n{of_where(results['runs'])}")
    if pillow := results.get("randaugment_against_pillow"):
        rates = pillow["images_per_second"]
        lines.append(
            f"\nRandAugment at 32x32, images/s: {rates['compiled']:,} here and "
            f"{rates['pillow']:,} by Pillow in {pillow['pillow_processes']} processes, "
            f"{pillow['ratio']:.1f} times as many."
        )
    return "\n".join(lines)


def peers(results: Table) -> str:
    """Of one machine, the works of README."""
    found = [one for one in _by_keep(results).get(PEERS, []) if one["work"] in SHOWN]
    if not found:
        return NOT_MEASURED
    rows = [
        [
            WORKS[one["work"]],
            f"{one['views']:,}",
            _milliseconds(one, "ours"),
            *_beside(one, "tuned"),
            _form(one),
            *_beside(one, "workers"),
        ]
        for one in found
    ]
    header = ["a step of", "views", "ours, ms", "tuned, ms", "ours / tuned"]
    header += ["tuned is", "workers, ms", "ours / workers"]
    return f"{_said(found)}:\n\n{formats.markdown_table(header, rows)}"


def peers_all(results: Table) -> str:
    """A part for each machine and precision."""
    header = ["a step of", "views", "ours, ms", "tuned, ms", "ours / tuned"]
    header += ["tuned is", "workers, ms", "ours / workers", "steps differ by"]
    parts = [
        f"`{keep}`: {_said(found)}:\n\n"
        + formats.markdown_table(header, [_peers_row(one) for one in found])
        for keep, found in sorted(_by_keep(results).items())
    ]
    return "\n\n".join(parts) or NOT_MEASURED


def _peers_row(one):
    step = one["one_step"] or {}
    worst = max(step.values(), default=None)
    return [
        WORKS[one["work"]],
        f"{one['views']:,}",
        _milliseconds(one, "ours"),
        _milliseconds(one, "tuned"),
        _range(one, "tuned"),
        _form(one),
        _milliseconds(one, "workers"),
        _range(one, "workers"),
        "" if worst is None else f"{worst:.0e}",
    ]


def _form(one):
    """Of `tuned`; of eager, whether anything else was tried."""
    chosen, tried = (one["compiled"] or {"chosen": "", "tried": {}}).values()
    return chosen + ", nothing else tried" * (chosen == "eager" and not tried)


def _by_keep(results):
    """{"cpu": its works in their order} of "cpu_wrn64" and so on."""
    found = {}
    for name, (one,) in results.items():
        found.setdefault(name.removesuffix(f"_{one['work']}"), []).append(one)
    order = list(WORKS)
    return {
        k: sorted(v, key=lambda one: order.index(one["work"])) for k, v in found.items()
    }


def _said(found):
    one = found[0]
    rounds = sorted({str(len(one["seconds"]["ours"])) for one in found})
    return (
        f"{one['device']['kind']}, {one['cpus']} CPU cores, {one['precision']}, "
        f"PyTorch {one['versions']['torch']}, medians of {' or '.join(rounds)} "
        "alternated rounds, ratios of the same round"
    )


def _beside(one, peer):
    """Its time, and how many times it ours takes."""
    if peer not in one["ratios"]:
        return ["", ""]
    return [_milliseconds(one, peer), f"{one['median_ratio'][peer]:.2f}"]


def _milliseconds(one, peer):
    if peer not in one["median_seconds"]:
        return ""
    milliseconds = 1e3 * one["median_seconds"][peer]
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _range(one, peer):
    if peer not in one["ratios"]:
        return ""
    least, most = min(one["ratios"][peer]), max(one["ratios"][peer])
    return f"{one['median_ratio'][peer]:.2f} ({least:.2f} to {most:.2f})"


def of_where(runs: list[dict]) -> str:
    """What a step computes and moves, against this machine's rates, and its parts."""
    lines = []
    for run in runs:
        where = run["where"]
        flops, of_xla, moved = (where[n] for n in ("flops", "xla_flops", "bytes"))
        reached = [where["of_matmul"], where["of_copy"]]
        lines.append(
            [
                f"{run['devices']}",
                f"{flops / 1e9:,.2f}",
                "" if of_xla is None else f"{of_xla / 1e9:,.2f}",
                "" if moved is None else f"{moved / 1e9:,.2f}",
                *("" if share is None else f"{100 * share:.0f}" for share in reached),
                *(f"{100 * share:.0f}" for share in where["share"].values()),
            ]
        )
    (share, *_) = (run["where"]["share"] for run in runs)
    header = ["devices", "GFLOP a step", "by XLA", "GB a step"]
    header += ["% of matmul's rate", "% of copy's rate", *(f"% {n}" for n in share)]
    rates = "; ".join(
        f"{run['where']['matmul_flops_per_second'] / 1e9:,.0f} GFLOP/s and "
        f"{run['where']['copy_bytes_per_second'] / 1e9:,.1f} GB/s"
        for run in runs
    )
    return (
        "Where a step's time goes. GFLOP are of matrix products and convolutions; of "
        "all, with loops taken once, by XLA, whose are the GB, as if nothing were "
        f"cached. The machine's own rates: {rates}. The last four are of the loop: "
        "drawing and views, optimizer and averages, the network, waiting for the host."
        f"\n\n{formats.markdown_table(header, lines)}"
    )


def streams(results: Table) -> str:
    """What stream_speed.py measured, a part after the other."""
    found = {name.partition("_")[0]: measured[0] for name, measured in results.items()}
    if "rate" not in found:
        return (
            "Not measured yet: `python -m experiments.speed.stream_speed --keep=cpu`."
        )
    rate = found["rate"]
    said = f"{rate['device']['kind']}, {rate['cpus']} CPU cores"
    said += f" (load average {rate['load_average']:.1f})"
    ms, cpu = rate["step_ms"], rate["cpu_ms"]
    low, high = min(rate["ratios"]), max(rate["ratios"])
    parts = [
        f"`fixmatch_mnist` on {said}: a step of {rate['images_per_step']} images takes "
        f"{ms['device']:.0f} ms with the images on the device and {ms['stream']:.0f} "
        f"ms streamed from array_record files, {rate['ratio']:.2f} times the rate "
        f"({low:.2f} to {high:.2f} in {len(rate['ratios'])} alternated rounds of "
        f"{rate['steps']} steps), and {cpu['device']:.0f} and {cpu['stream']:.0f} ms "
        "of CPU time."
    ]
    if decoding := found.get("decoding"):
        lines = [
            [workers, f"{e['step_ms']:.1f}", f"{e.get('start_seconds', 0):.1f}"]
            for workers, e in decoding["workers"].items()
        ]
        header = ["grain's workers", "ms", "seconds to begin"]
        parts.append(f"Decoding alone, {decoding['images_per_step']} images at a time:")
        parts.append(formats.markdown_table(header, lines))
    if jpegs := found.get("jpegs"):
        parts.append(
            f"{jpegs['files']:,} JPEG files of 200 to 500 pixels a side, brought to "
            f"256: {jpegs['opening_seconds']:.1f} s to open all, "
            f"{jpegs['1 threads']['images_per_second']:,} images/s by one thread, "
            f"{jpegs['2 threads']['images_per_second']:,} by two."
        )
    if memory := found.get("memory"):
        held = [f"{mib:,.0f} after {at}" for at, mib in memory["held_MiB"].items()]
        parts.append(
            f"Memory of the process, MiB, by steps of {memory['images_per_step']} "
            f"streamed images: {', '.join(held)}; threads left behind: "
            f"{memory['threads_left']}."
        )
    return "\n\n".join(parts)


def gcn(results: Table) -> str:
    """A part for each device."""
    return "\n\n".join(of_gcn(measured) for (measured,) in results.values())


def of_gcn(results: dict) -> str:
    """A line for each form."""
    seconds = results["seconds"]
    lines = []
    for name, shown in FORMS.items():
        times = ""
        if name != "ssl_jax":
            pairs = zip(
                results["rounds"][name], results["rounds"]["ssl_jax"], strict=True
            )
            times = f"{statistics.median(theirs / own for theirs, own in pairs):.1f}"
        lines.append([shown, f"{seconds[name]:.2f}", times])
    caption = (
        f"{results['epochs']} epochs of one seed on {results['device']['kind']}, "
        f"{results['cpus']} CPU cores, without compilation (of ssl_jax: "
        f"{results['compile_seconds']:.1f} s), and medians of "
        f"{len(results['rounds']['ssl_jax'])} alternated rounds:"
    )
    header = ["GCN on Cora", "seconds", "times ssl_jax's"]
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


def label_spreading(results: Table) -> str:
    """A part for each device."""
    return "\n\n".join(of_spreading(measured) for (measured,) in results.values())


def of_spreading(results: dict) -> str:
    """The tables of one machine."""
    machine = results["machine"]
    said = f"{machine['device']['kind']}, {machine['cpus']} CPU cores"
    parts = [of_mnist(results, said)] if set(PARTS[:2]) & set(results) else []
    if "scale" in results:
        parts.append(of_scale(results["scale"], said))
    return "\n\n".join(parts)


def of_mnist(results: dict, said: str) -> str:
    """A line for each graph; how ours compare with scikit-learn's."""
    fits = {"rbf, in blocks": [results[PARTS[0]]]} if PARTS[0] in results else {}
    knn = results.get(PARTS[1], {"rounds": {}, "ratio": {}})
    graphs = {n: rounds[0].get("graph", n) for n, rounds in knn["rounds"].items()}
    for name, rounds in knn["rounds"].items():
        fits[f"{NEIGHBORS} neighbours, {graphs[name]}"] = rounds
    lines = [
        [
            name,
            f"{statistics.median(e['seconds'] for e in rounds):,.1f}",
            f"{max(e['peak_bytes'] for e in rounds) / GIB:.2f}",
            f"{rounds[0]['products']}",
            f"{100 * rounds[0]['accuracy']:.2f}",
            f"{100 * (1 - rounds[0]['unreached'] / rounds[0]['rows']):.1f}",
        ]
        for name, rounds in fits.items()
    ]
    entry = next(iter(fits.values()))[0]
    matrix = f"needs {8e-9 * entry['rows'] ** 2:.1f} GB a matrix"
    lines.append(["rbf, scikit-learn", "", matrix, "", "", ""])
    header = ["graph", "seconds", "peak GiB", "products", "accuracy, %", "reached, %"]
    parts = [
        f"MNIST, {entry['rows']:,} images, {entry['labels']} labels, on {said}: "
        "accuracy on the other images, where those that no label reaches count as the "
        "first class, and peak memory of the whole process.",
        formats.markdown_table(header, lines),
    ]
    if knn["ratio"]:
        said = [
            f"{graphs[name]} {ratio:.1f} times as fast, "
            f"{100 * knn['same_labels'][name]:.2f}% of the labels equal"
            for name, ratio in knn["ratio"].items()
        ]
        parts.append(f"In turn with scikit-learn's neighbours: {'; '.join(said)}.")
    return "\n\n".join(parts)


def of_scale(scale: dict, said: str) -> str:
    """A line for each number of rows, a column for each of LINES."""
    by_rows = {}
    for entry in scale.values():
        by_rows.setdefault(entry["rows"], {})[entry["line"]] = entry
    lines = []
    for rows, found in sorted(by_rows.items()):
        recall = found.get("ssl_jax knn", {}).get("recall")
        line = [f"{rows:,}", *(cell(found.get(name), name, rows) for name in LINES)]
        lines.append([*line, "" if recall is None else f"{100 * recall:.1f}"])
    labels = ", ".join(sorted({f"{e['labels']:,}" for e in scale.values()}))
    caption = (
        f"{FEATURES} features, 10 Gaussian classes that the best possible classifier "
        f"tells apart in {100 * BAYES:.1f}% of the rows, {labels} labels, on {said}: "
        "seconds, peak memory of the whole process, accuracy; recall of the neighbours "
        "in % where they are approximate."
    )
    header = ["rows", *LINES, "recall"]
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


def cell(entry: dict | None, line: str, rows: int) -> str:
    if entry is not None:
        memory = f"{entry['peak_bytes'] / GIB:.2f} GiB"
        return f"{entry['seconds']:,.1f} s, {memory}, {100 * entry['accuracy']:.1f}%"
    if line == "scikit-learn rbf" and rows > LINES[line][-1]:
        return f"needs {8e-9 * rows**2:,.0f} GB a matrix"
    return ""


def cost(scale: dict) -> Figure:
    """Seconds and peak memory against rows."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle("label spreading: what a fit takes")
    panels = {"seconds": 1, "peak_bytes": GIB}
    for axes, (field, unit) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for line, color, marker in zip(
            LINES, drawing.PALETTE, drawing.MARKERS, strict=False
        ):
            entries = [e for e in scale.values() if e["line"] == line]
            points = sorted((e["rows"], e[field] / unit) for e in entries)
            style = "--" if line.startswith("scikit") else "-"
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, marker=marker)
                axes.lines[-1].set_label(line.replace("knn", f"{NEIGHBORS} neighbours"))
        axes.set(xscale="log", yscale="log", xlabel="rows")
        axes.grid(alpha=0.3, which="both")
    axes.set(ylabel="peak memory of the process, GiB")
    figure.axes[0].set(ylabel="seconds")
    rows = np.geomspace(SIZES[0], 100_000, 9)
    axes.plot(rows, 8 * rows**2 / GIB, ":", color="gray", label="one N x N matrix")
    axes.legend()
    return figure
