"""The zoo: one architecture a file, each usable alone in a notebook.

A model maps an image to a dict of raw outputs: no loss, no decoding and no
suppression in it. Each file ends with the alias `Model`, by which a config
finds it, and with `FACTS`, which `python -m medzoo.models` lists.
"""
