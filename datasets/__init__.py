"""Builders that turn published data into prepared datasets of cases.

One folder a dataset, each with a TFDS builder; `phantoms` makes raw files in
the same layouts, and `python -m datasets.build` prepares any of them without
TensorFlow. The folder is part of the repository and not of the package.
"""
