"""Optional parts of the load test: nothing here is loaded unless it is asked for.

* `junit`: Case, JunitFile, cases_from_max_rate, cases_from_summary, check_junit_file, ...
"""
