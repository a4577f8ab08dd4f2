"""What was measured: summary, validity, warnings, verdict, files.

* `binomial`: at_most, beta_cdf, clopper_pearson, median_ranks, percentile_ranks
* `caching`: compare_repeats
* `console_report`: LoadProgress, text_from_summary
* `files`: bytes_of_results, check_out_folder, csv_from_samples, existing_folder, next_folder, ...
* `folder`: Run, latency_of_row, read_json, read_run, read_runs
* `percentiles`: describe_ms, nearest_rank, rank_of_percentile, samples_needed
* `summary`: build_summary, exit_code_from_summary
* `trend`: describe_trend, kendall_z, theil_sen
* `validity`: judge_validity
* `verdict`: Status, reasons_of, status_of, status_of_max_rate, status_of_slo, status_of_step, ...
* `warnings`: warnings_of
* `watch`: ServiceMonitor, Watch
"""
