"""From a config to trained phases: the walk of docs/house.md.

run            one run, from its config to result.json
sections       the config, parsed once into what parts.py has, by rules.py
optimizers     learning rates and transformations
phases         a phase built for its data and devices; program compiles it
loop           step, log, evaluate, stop, save; stopping says when, pictures draws,
               profiling traces some of the steps
probing        a phase judged by its features
self_training  a phase's labels from an earlier one
pace           how many steps a budget of time allows
many_seeds     one phase with many seeds at once
restored       a run that is there with its data, to be asked about images
classifier     and without them: what ssl_jax.load gives; exported, what runs or is
               read where there is no ssl_jax
"""
