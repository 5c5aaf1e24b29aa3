"""docs/scaling.md's tables, from what experiments/scaling.py counted, and what follows
of it on H100s: one formula a number, each with the source of what goes into it."""

import math

from ssl_jax.report import formats
from ssl_jax.workdir.results import Table

CASES = {
    "byol_imagenet": "BYOL, ResNet-50, batch 4,096",
    "fixmatch_imagenet": "FixMatch, ResNet-50, batch 1,024 x (1 + 2 x 5)",
    "fixmatch_cifar10": "FixMatch, WRN-28-2, batch 64 x (1 + 2 x 7)",
}
GPUS = (8, 64, 1024)

PEAK = 989e12  # multiplications and additions a second, bfloat16: H100 SXM's data sheet
# Of it, by MLPerf Training 3.0, entry 3.0-2053: ResNet-50 in 13.466 minutes on 8 H100.
# It does not say how many passes over ImageNet that took; 35 are assumed.
REACHED = 35 * 1_281_167 * 6 * 4_087_136_256 / (13.466 * 60 * 8)
A_NODE = 8  # GPUs
NVLINK = (
    450e9  # bytes a second and direction of a GPU: the data sheet's 900 GB/s of both
)
INFINIBAND = 8 * 50e9  # of a node with an adapter of 400 Gb/s for each GPU: DGX H100
MEMORY = 80e9  # of a GPU, bytes
LARGE = 2**20  # bytes: less in an all-reduce and its latency is all there is


def latency(gpus: int) -> float:
    """Seconds of a small all-reduce by a tree: NCCL's own model of it (src/graph/
    tuning.cc at 01afd20, protocol LL, microseconds)."""
    nodes = gpus // A_NODE
    within = 0.52 * (1.8 if nodes > 1 else 1.0)
    return 1e-6 * (4.4 + 2 * ((A_NODE - 1) * within + math.log2(nodes) * 5.0))


def exchange(size: int, gpus: int) -> float:
    """Seconds of a large all-reduce by rings: each GPU sends 2 (n - 1) / n of it."""
    rate = NVLINK if gpus <= A_NODE else INFINIBAND
    return latency(gpus) + size * 2 * (gpus - 1) / gpus / rate


def split(all_reduces: dict[str, int]) -> tuple[int, int, int, int]:
    """(large ones, their bytes, small ones, their bytes)."""
    sizes = [(int(size), count) for size, count in all_reduces.items()]
    large = [(s, n) for s, n in sizes if s >= LARGE]
    small = [(s, n) for s, n in sizes if s < LARGE]
    return (
        *(sum(n for _, n in large), sum(s * n for s, n in large)),
        *(sum(n for _, n in small), sum(s * n for s, n in small)),
    )


def inputs(results: Table) -> str:
    """What goes into the other tables, and is neither of a step nor of a device."""
    lines = []
    images = {
        "ResNet-50, 224 px": "fixmatch_imagenet",
        "WRN-28-2, 32 px": "fixmatch_cifar10",
    }
    for title, name in images.items():
        if name in results:
            image = results[name][0]["per_image"]
            adds = f"{image['multiply_adds'] / 1e9:.2f} billion"
            lines.append([f"multiply-adds, an image of {title}", adds])
            kept = f"{image['kept_bytes'] / 1e6:.1f} MB"
            lines.append([f"activations, an image of {title}", kept])
    rated = f"{REACHED / 1e12:.0f} TFLOP/s, {REACHED / PEAK:.0%} of {PEAK / 1e12:.0f}"
    lines.append(["computed by a GPU", rated])
    small = (f"{1e6 * latency(n):.0f} on {n:,}" for n in GPUS)
    lines.append(["a small all-reduce, microseconds", ", ".join(small)])
    return formats.markdown_table(["what goes in", ""], lines)


def step(results: Table) -> str:
    """What a step computes and exchanges, on any number of devices."""
    rows = []
    for name, title, result in _found(results):
        large, large_bytes, small, small_bytes = split(result["all_reduces"])
        rows.append(
            [
                title,
                f"{result['images_with_gradient']:,} + {result['images_without']:,}",
                f"{result['flops'] / 1e12:,.2f}",
                f"{large}, {large_bytes / 1e6:,.1f} MB",
                f"{small}, {small_bytes / 1e6:,.2f} MB",
            ]
        )
        if parts := result["all_reduces_in_4_parts"]:
            large, large_bytes, small, small_bytes = split(parts)
            rows.append(
                [
                    f"the same, accumulate=4 ({name})",
                    *("", ""),
                    f"{large}, {large_bytes / 1e6:,.1f} MB",
                    f"{small}, {small_bytes / 1e6:,.2f} MB",
                ]
            )
    header = ["a step of", "images with + without gradient", "TFLOP"]
    header += ["large all-reduces", "small ones"]
    return formats.markdown_table(header, rows)


def memory(results: Table) -> str:
    """GB of a device."""
    rows = []
    for _, title, result in _found(results):
        state = result["state_bytes"]
        image, seen = result["per_image"], result["images_with_gradient"]
        row = [
            title,
            " + ".join(
                f"{state[part] / 1e9:.3f}" for part in ("params", "opt_state", "extra")
            ),
        ]
        for gpus in GPUS:
            kept = [image["kept_bytes"], image["remat_bytes"]]
            row.append(" / ".join(f"{seen / gpus * k / 1e9:,.2f}" for k in kept))
        rows.append(row)
    header = ["GB of a device", "parameters + optimizer + average"]
    header += [f"activations on {gpus:,} GPUs / with remat" for gpus in GPUS]
    return formats.markdown_table(header, rows)


def time(results: Table) -> str:
    """Milliseconds of a step, and what batch would hide what."""
    rows = []
    for _, title, result in _found(results):
        batch = result["config"]["train"]["batch_size"]
        seen, again = result["images_with_gradient"], result["images_without"]
        backward = 2 * seen / (3 * seen + again)
        _, size, small, _ = split(result["all_reduces"])
        for gpus in GPUS:
            compute = result["flops"] / gpus / REACHED
            gradient, moments = exchange(size, gpus), small * latency(gpus)
            shown = max(gradient - backward * compute, 0)
            share = f"{compute / (compute + shown + moments):.0%}"
            rows.append(
                [
                    title,
                    f"{gpus:,}",
                    *(f"{1e3 * s:,.2f}" for s in (compute, gradient, moments)),
                    share if batch % gpus == 0 else "does not divide",
                    f"{math.ceil(batch * gradient / (backward * compute)):,}",
                    f"{math.ceil(batch * moments / (0.1 * compute)):,}",
                ]
            )
    header = ["a step of", "GPUs", "compute, ms", "gradients, ms", "BatchNorm, ms"]
    header += ["share that computes", "gradients hide from batch"]
    header += ["BatchNorm is a tenth at batch"]
    return formats.markdown_table(header, rows)


def _found(results):
    for name, title in CASES.items():
        if name in results:
            yield name, title, results[name][0]
