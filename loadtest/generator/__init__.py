"""What sends it: Locust users, outcomes of requests, and what the generator itself manages.

* `affinity`: CoreSplit, on_cores, pin_tree, process_tree, split_cores
* `calibration`: calibrate, p99_change
* `environment`: CpuMeter, fingerprint, load_average, peak_memory_mib
* `histogram`: LatencyHistogram, has_histograms
* `load_result`: GeneratorReport, LoadResult
* `null_server`: running_null_server
* `outcome`: Outcome, Sample, SampleLog, Tally, latencies_of, outcome_of
* `preflight`: PreflightReply, probe_service
* `preparation`: check_descriptors, fault_of, import_report, raise_descriptors
* `process`: Generator
* `runner`: run_load, signals_set
* `users`: ClosedLoopUser, ImageUser, OfflineUser, OpenLoopUser
"""
