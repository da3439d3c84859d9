"""Pure functions on arrays: no parameters, no files, no configuration.

Convolution that is also fast on a CPU, boxes and non-maximum suppression live
here. Every other part may use them; they use nothing but `medzoo.types`.
"""
