"""A record in: from a signed submission to its receipt. pipeline.py names the steps in order."""
