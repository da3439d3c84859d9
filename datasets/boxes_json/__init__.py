"""Anybody's pictures with boxes in them, in TensorBox's lists."""
