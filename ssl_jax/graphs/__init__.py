"""Graphs over rows: sparse matrices, neighbours, similarities, and labels that flow."""
