"""Configs: one file an experiment, one `get_config(variant)` each."""
