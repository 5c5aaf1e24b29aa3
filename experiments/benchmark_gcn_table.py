"""What benchmark_gcn.py measured, as README's table: without PyTorch to import."""

import statistics

from ssl_jax.report import formats

FORMS = {
    "ssl_jax": "ssl_jax",
    "pyg_dense": "PyTorch Geometric, dense features as in its example",
    "pyg_sparse": "PyTorch Geometric, sparse features",
    "pyg_sparse_adjacency": "PyTorch Geometric, sparse features and adjacency",
}


def table(results: dict) -> str:
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
