"""``python -m hpc_heatmap`` is the command ``hpc-heatmap``."""

import sys

from hpc_heatmap.cli.app import main

sys.exit(main())
