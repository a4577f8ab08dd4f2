"""Why a candidate failed parity: one thing changed at a time (optional).

* `diagnosis`: FailedCandidate, SuspectResult, diagnose, explain
* `graph_edits`: ChangedInitialiser, RefusedGraph, changed_initialisers, holds_halves, ...
* `int8_scales`: ActivationRange, activation_ranges, count_weight_scales, is_quantised, ...
* `trials`: without_closed_files
"""
