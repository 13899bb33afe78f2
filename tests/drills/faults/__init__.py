"""Faults that no signal to a program makes: `python -m tests.drills.faults NAME`."""
