#!/bin/sh
# Names the Python to build with: new enough, able to make an environment, and preferably compiled with the
# compiler's optimisation (--enable-optimizations, which distributions' own and the official images have and
# a plain build from source has not: everything written in Python then costs about a third more).
first=
for candidate in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
    made=$("$candidate" -c '
import ensurepip, sys, sysconfig, venv
fast = sys.base_prefix == "/usr" or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
print("old" if sys.version_info < (3, 11) else "fast" if fast else "plain")' 2>/dev/null) || continue
    case $made in
    fast) echo "$candidate" && exit ;;
    plain) first=${first:-$candidate} ;;
    esac
done
echo "${first:-python3}"
