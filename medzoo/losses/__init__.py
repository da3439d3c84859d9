"""Training losses: arrays in, float32 terms out.

Losses of a batch take a `valid` mask, because batches are padded to a fixed
size; those of single examples do not. All compute in float32, whatever the
network computed in.
"""
