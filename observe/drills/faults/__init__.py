"""Faults that no signal to a program makes: `python -m observe.drills.faults NAME`."""
