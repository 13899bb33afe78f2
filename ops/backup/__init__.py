"""Backups of a member: photographed while it runs, sealed to a recovery key, restored as a whole."""
