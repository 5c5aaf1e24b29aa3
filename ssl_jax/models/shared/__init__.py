"""What several networks are made of.

batch_norm   BatchNorm whose running moments do not remember their start
convolution  as a CPU is fast at them; depthwise and winograd are ways of it
in_parts     a batch in parts, and blocks computed again, to save memory
patches      convolution whose windows do not overlap
stochastic_depth  branches that some images of a batch go without
"""
