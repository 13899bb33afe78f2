"""The REST path as the paper drove it: a JMeter plan, and what it needs beforehand and afterwards."""
