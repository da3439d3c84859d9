"""Where a model, its losses and the batch meet for training.

A task knows what the training loop does not: how to initialise its model, what
the loss of a batch is, and how validation batches are scored. One task a file;
each file ends with the alias `Task` by which a config finds it.
"""
