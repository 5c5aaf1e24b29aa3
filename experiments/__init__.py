"""What stands behind every quoted number.

tables/ trains within hours on a CPU, papers/ what takes days of a GPU, speed/ measures.
jobs.py trains and collects, results/ holds what came of it (the form: jobs.py), and
readme.py fills the tables of the documents from that alone. Two are checks:
same_numbers.py of two commits, teachers.py of averages.
"""
