"""Anybody's CT or MR series, with findings in convnet3d's CSV."""
