"""A record in: from a signed submission to its receipt."""
