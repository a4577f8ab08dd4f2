"""Charts of the report, from the files of a run.

* `curves`: draw_curves
* `history`: History, read_history
* `intervals`: Axis, axis_of, draw_axis, draw_row
* `load`: draw_over_time, draw_percentiles, latency_limits
* `reliability`: draw_reliability
* `samples`: Samples, read_samples
"""
