"""The largest rate that holds an objective, by one load after another.

* `command`: main
* `search`: MaxRate, RateTrial, find_max_rate, requests_wanted
* `subprocess_runner`: heeded, run_child, stopped_alike
* `trial_folder`: trial_from_folder
"""
