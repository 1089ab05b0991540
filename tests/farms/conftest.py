"""The farms, for the tests of the farms themselves."""

from farms.fixtures import gridengine, slurm, slurm_plain

__all__ = ["gridengine", "slurm", "slurm_plain"]
