"""How fast things are and what they cost, each beside what others offer.

kill_resume.py measures something else: whether a run that was killed again and again is
the run that was never stopped.

tables.py makes tables and a figure of what they found, without importing what they do.
"""
