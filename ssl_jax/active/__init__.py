"""Active learning.

strategies     which images to ask about: functions of what a model says
questions      queries.csv, and --mode=query
rounds         a simulation: trainings, and an oracle's answers between them
"""
