"""From prepared cases to batches, without JAX.

`sources` opens prepared datasets, `volumes` resamples and windows scans,
`lungs` says where to search, `patches` cuts training cubes, `transforms`
augments them and `pipeline` feeds them, seeded and resumable.
"""
