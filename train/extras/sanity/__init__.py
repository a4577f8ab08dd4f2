"""`stillroom train --sanity`: whether this training can work at all (optional).

* `case`: SanityCase, sanity_case_of
* `checks`: Check, check, run_sanity
* `overfit`: OverfitResult, overfit_one_batch
"""
