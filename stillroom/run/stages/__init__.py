"""What builds each stage of a run; `stillroom.run.pipeline` names these functions by text.

* `artifact`: build_export, build_latency, build_precision
* `data`: build_audit, dataset_of, unlabelled_of
* `http_parity`: check_http_parity, compare_answers, settings_of
* `load`: run_load_tests, run_loadtest, write_corpus
* `training`: build_baseline, build_fixres, build_student, build_teacher
"""
