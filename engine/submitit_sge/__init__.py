"""Son of Grid Engine (and its relatives) for submitit.

Installed, it is found by itself::

    executor = submitit.AutoExecutor(folder, cluster="sge")
    executor.update_parameters(timeout_min=60, mem_gb=4, cpus_per_task=2, sge_pe="smp")
    jobs = executor.map_array(function, arguments)

Parameters are submitit's shared ones and, with the prefix ``sge_``, those of `SgeParameters`.
Without AutoExecutor, `SgeExecutor` takes all of them without a prefix. Jobs start in the home
directory, with the site's default environment: see ``export_env`` and ``setup``.

What Grid Engine cannot tell: a deletion and a kill leave the same record, so that a job deleted by
another process while no poll saw it go is FAILED; and a task deleted while it was pending leaves
none, so that it takes some polls to be CANCELLED.
"""

from submitit_sge.environment import SgeJobEnvironment
from submitit_sge.executor import SgeExecutor
from submitit_sge.job import SgeJob
from submitit_sge.parameters import SgeParameters
from submitit_sge.watcher import SgeInfoWatcher

__all__ = ["SgeExecutor", "SgeInfoWatcher", "SgeJob", "SgeJobEnvironment", "SgeParameters"]
