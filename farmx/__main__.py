"""python -m farmx."""

from farmx.cli.main import farmx

farmx(prog_name="farmx")
