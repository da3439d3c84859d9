"""Open-i's chest X-rays with the findings of their reports."""
