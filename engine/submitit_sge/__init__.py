"""Son of Grid Engine (and its relatives) for submitit.

Installed, it is found by itself::

    executor = submitit.AutoExecutor(folder, cluster="sge")
    executor.update_parameters(timeout_min=60, mem_gb=4, cpus_per_task=2, sge_pe="smp")
    jobs = executor.map_array(function, arguments)

All parameters are those of `SgeParameters`. Jobs start in the home directory, with the site's
default environment: name ``export_env`` or ``setup`` lines where they need more.
"""

from submitit_sge.environment import SgeJobEnvironment
from submitit_sge.executor import SgeExecutor
from submitit_sge.job import SgeJob
from submitit_sge.parameters import SgeParameters
from submitit_sge.watcher import SgeInfoWatcher

__all__ = ["SgeExecutor", "SgeInfoWatcher", "SgeJob", "SgeJobEnvironment", "SgeParameters"]
