"""From prepared cases to batches, without JAX.

`sources` opens prepared datasets, `volumes` resamples and windows scans,
`lungs` says where to search, `places` where training cubes lie, `patches` cuts
them, `transforms` augments them and `pipeline` feeds them, seeded and
resumable. `views` shows the parts of pictures that classifiers look at.
"""
