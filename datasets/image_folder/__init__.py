"""Anybody's pictures, a folder for each of two classes."""
