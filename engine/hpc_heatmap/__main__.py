"""``python -m hpc_heatmap`` is the command ``hpc-heatmap``."""

from hpc_heatmap.cli.entry import script

if __name__ == "__main__":
    script()
