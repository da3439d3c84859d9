"""Training losses: arrays in, float32 terms out.

Every loss takes a `valid` mask, because batches are padded to a fixed size,
and computes in float32 whatever the network computed in.
"""
