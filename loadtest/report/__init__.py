"""report.html of a load test or of a max rate: one file that needs no other host.

* `charts`: draw_heat, draw_percentiles, draw_probes, draw_processes, draw_rates, ...
* `command`: command_of
* `figures`: Failure, Percentile, SampleRow, Second, failures_of, percentile_rows, read_rows, ...
* `page`: load_template, write_report
* `scales`: Scale, linear, logarithmic, nines
* `svg`: Chart
* `verdict`: LoadVerdict, max_rate_verdict, run_verdict
"""
