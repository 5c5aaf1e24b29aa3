"""Graphs over rows.

sparse         matrices as lists of their entries, and products with them
neighbors      nearest rows, exact and approximate
affinity       similarities in three forms
problem        from features and labels to a graph
propagation    labels that flow along it
"""
