"""A graph that is published: its nodes, edges and labels."""

import numpy as np

from ssl_jax.analyze import counts
from ssl_jax.data.graph_nodes import GraphData


def facts(graph: GraphData) -> dict:
    """As JSON holds it; `edges_within_a_class` is of those between known labels."""
    rows_E, columns_E = map(
        np.asarray, (graph.adjacency.rows_E, graph.adjacency.columns_E)
    )
    from_E, to_E = graph.labels_N[rows_E], graph.labels_N[columns_E]
    known_E = (from_E >= 0) & (to_E >= 0)
    degree_N = np.bincount(rows_E, minlength=len(graph.labels_N))
    within = (from_E == to_E)[known_E].mean() if known_E.any() else None
    return {
        "nodes": len(graph.labels_N),
        "edges": len(rows_E) // 2,
        "features": graph.features.shape[1],
        "without_edges": int((degree_N == 0).sum()),
        "largest_degree": int(degree_N.max(initial=0)),
        "edges_within_a_class": within and round(float(within), 4),
    }


def rows(graph: GraphData, pool: counts.Rows) -> counts.Rows:
    """The nodes by what they are to a run; those to test on are in the pool as well."""
    apart = {name: np.setdiff1d(nodes, graph.test) for name, nodes in pool.items()}
    return apart | {"test": graph.test}
