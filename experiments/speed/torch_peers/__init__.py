"""What `experiments.speed.peers` compares with: the same work in PyTorch.

networks     the networks of ssl_jax/models, module for module and name for name
weights      their parameters, from one library to the other
algorithms   supervised, FixMatch and BYOL: the losses, the optimizers, the averages
batched      augmentation of a whole batch on the device, for `tuned`
pillow       augmentation of one image by Pillow, for `workers`
loops        the two loops

Needs PyTorch (`pip install -e '.[bench]'`) and neither torchvision nor JAX, so that a
worker of a DataLoader starts without it.
"""
