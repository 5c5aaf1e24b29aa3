"""Everything that is on disk, and its only writer.

workdir      Workdir: how a run's folder is entered, and every name in it
shared       the same where several processes train: the first has it
phase_folder a phase's own folder, of this run or of another
ablation_folder what a run is without each of its parts
checkpoints  the only importer of orbax
handover     what a phase leaves to a later one
journal      metrics.jsonl
logs         rows on their way to the journal and to whoever watches
tensorboard  what is shown there; event_files writes it without TensorFlow
settings     config.json: what may differ between two launches, and what may not
inventory    what data a run began with, and what has changed since
results      result.json, written and read
compiled     what JAX has compiled, for the next process
drawing      figures into their files
lettering    the texts of a figure, drawn as they are: names are the user's
files        files of which a killed process leaves the old one or the new one
"""
