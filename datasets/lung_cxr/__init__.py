"""Anybody's chest X-rays with masks of the lungs."""
