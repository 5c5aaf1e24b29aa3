"""How fast things are and what they cost, each beside what others offer; and kill_resume,
which measures whether a run that was killed is the one that was not.

tables.py makes tables and a figure of what they found, without importing what they do.
"""
