"""Fire drills: each runbook followed for real, on a laptop network of its own, with the fault injected.

make drills             every drill; OPTIONS="--list", OPTIONS="--only NatsDown --only IpfsDown", OPTIONS=--real

What a drill does stands in the runbook itself, under *Try it*: the commands are taken from there.
"""
