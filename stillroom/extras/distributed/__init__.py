"""`stillroom train --nproc N`: the pipeline by rank 0, the training by all (optional).

* `launch_ranks`: launch_ranks
* `ranks`: run_as_rank
"""
