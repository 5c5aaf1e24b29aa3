"""What a Python session does without a command line.

fitting     fit: a run, from images to a Classifier
pools       images and labels that are handed over
finished    load: a Classifier of a run that is there
on_images   ImageClassifier: the same by fit(X, y) and predict(X), as scikit-learn's
on_graphs   scikit-learn's LabelSpreading and LabelPropagation, by this project's graphs
"""
