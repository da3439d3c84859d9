"""Makers of synthetic raw files, in the layouts that real data come in.

A phantom is made by a pure function of a seed and an index and then written
as the real data of its job are published, so that an experiment without data
exercises the same code as one with data, from the first byte on.
"""
