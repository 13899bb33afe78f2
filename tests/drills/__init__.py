"""Fire drills: each runbook followed for real, on a laptop network of its own, with the fault injected.

make drills                       every drill
make drills ONLY="NatsDown …"     some of them
make drills OPTIONS=--list        which there are; OPTIONS=--real leaves the alerts their times

What a drill does stands in the runbook itself, under *Try it*: the commands are taken from there.
"""
