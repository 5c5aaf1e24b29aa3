"""What a Python session does without a command line.

on_graphs   scikit-learn's LabelSpreading and LabelPropagation, by this project's graphs
"""
