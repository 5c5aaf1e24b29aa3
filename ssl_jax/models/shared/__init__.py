"""What several networks are made of.

batch_norm   BatchNorm whose running moments do not remember their start
"""
