"""Frames of colonoscopies with their polyps outlined."""
