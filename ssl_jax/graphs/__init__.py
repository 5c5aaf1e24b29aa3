"""Graphs over rows.

sparse         matrices as lists of their entries, and products with them
distances      rows of real numbers, and where float32 cannot tell them apart
neighbors      nearest rows by exhaustive search
approximate    nearest rows among very many
affinity       similarities in four forms
given          similarities that a matrix says
problem        from features and labels to a graph
propagation    labels that flow along it
"""
