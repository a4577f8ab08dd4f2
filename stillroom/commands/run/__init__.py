"""Commands on a whole run: run, report, status, verify, compare.

* `compare`: compare
* `compare_runs`: compare_runs
* `report`: report
* `run`: run
* `status`: status
* `verify`: verify, verify_target
"""
