"""What data are like, before anything is trained on them: --mode=analyze.

analysis   all of it, in order: printed, and in analysis.json
counts     images by class and split
files      formats, sizes and what cannot be read
pixels     one look at every image: means, grey ones, what tells copies
copies     the same image twice, or nearly, in one split or across two
estimate   how long the run would take here, by a step that is timed
text       analysis.json for people
"""
