"""Commands around a training: sanity, profile, choices, evaluate, compare.

* `choices`: measure_run
* `compress`: compress
* `evaluate`: evaluate
* `profile`: profile_run
* `sanity`: check_training, print_checks
* `search_students`: search_student
* `train`: train
"""
