"""The command ``hpc-heatmap``: the only place that prints."""
