"""Many trainings compared on the validation images: search, backbones, data, resolution.

* `cells`: StudyCell, train_cells
* `folder`: SweepFolder
* `lists`: names, numbers, sizes_px
* `page`: Tile, render, top1_cell, whisker_start
* `speed`: busy_notice, cost_axis
* `subject`: StudyData, judged_without_test, open_study_data
* `trial`: Stopwatch, TrialResult, abandon_trial, compare_trials, predict_val, read_outcome, ...
"""
