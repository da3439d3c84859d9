"""Tiles of 50 x 50 pixels round candidates of LUNA16."""
