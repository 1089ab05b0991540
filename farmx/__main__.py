"""python -m farmx."""

import os
import sys

if sys.path[:1] in ([""], [os.path.realpath(os.curdir)]):  # a yaml.py or click.py of the user's is not ours to import
    del sys.path[0]

from farmx.cli.main import farmx  # noqa: E402: after the path is clean

farmx(prog_name="farmx")
