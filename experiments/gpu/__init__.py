"""Everything that a GPU is asked, on a machine without a network: experiments/gpu.sh.

parts     what is measured, in which commands, each with its share of the minutes
bring     at home: the wheels and data to take along
packed    a data set in files small enough for that
machine   there: whether it has all that a part needs
"""
