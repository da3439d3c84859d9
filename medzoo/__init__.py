"""medzoo: a JAX/Flax zoo for finding things in medical images."""

__version__ = '0.1.0'
