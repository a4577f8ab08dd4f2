"""`stillroom parity`: an artifact on this machine, or any two files, on images.

* `common_input`: common_labels, common_spec
* `console`: report_verdict
* `local_parity`: check_local_parity
* `stored_reference`: compare_runner, said_at_export, stored_reference, tolerances_here
* `two_files`: FilesRequest, compare_files
"""
