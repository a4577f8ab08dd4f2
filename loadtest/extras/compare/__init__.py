"""Two results against one another, with intervals (optional).

* `command`: differing_fields, main
* `difference`: LatencyDifference, compare_runs, is_over_repeats
"""
