"""Configs: one file an experiment, one `get_config(variant)` each.

`grid` trains one for every row of a table; files whose names begin with a line
hold what several share.
"""
