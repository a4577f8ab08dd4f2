"""Class folders and split folders: what a walk takes and passes over, and what names mean.

* `file_names`: Misnamed, escaped, misnamed_of, name_problem, refuse_arguments, ...
* `layout`: Layout, find_layout
* `notices`: Notice, Reason, Severity, by_reason_and_class, counted, printable, sentence, ...
* `scan`: Scan, scan_folder, why_no_image
* `split_words`: is_wrapper, split_of, splits_of, two_meanings, word_of
"""
