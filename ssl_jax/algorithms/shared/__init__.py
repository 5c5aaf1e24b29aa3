"""What two or three papers have in common; what one has stands in its own file.

ema_teacher      a moving average of the network that is judged
embeddings       CoMatch and SimMatch: a classifier that embeds images as well
frozen_encoder   spreading and a probe on features: an encoder that rests
joint_embedding  BYOL, SimSiam, SimCLR and others: views of an image embedded alike
mixup            MixMatch and ReMixMatch: everything mixed with everything; and labeled
                 images alone, by MixUp or CutMix
pool_graph       label spreading and propagation: a graph of all images
"""
