"""Experiments that train within hours on a CPU: the tables of README and docs/.

Each says which runs it wants, and makes a table of their results.
"""
