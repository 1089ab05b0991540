#!/bin/sh
# run r_2 of experiment sweep, by farmx 0.1.0; runs by hand too
case $0 in */*) CDPATH= cd -- "${0%/*}" || exit 1 ;; esac
export LOGDIR="$PWD"
export PATH=/usr/bin:/bin
export PYTHONPATH="$LOGDIR"/code"${PYTHONPATH:+:$PYTHONPATH}"
cd -- "$LOGDIR"/code || exit 1
exec python t.py --n 2
