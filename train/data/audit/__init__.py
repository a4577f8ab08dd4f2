"""What is in a dataset and what is wrong with it: each file decoded once, copies found.

* `cache`: AuditCache, FileFacts, open_cache
* `close_look`: CloseLook, close_looks, same_picture
* `dataset_audit`: AuditResult, audit_images, read_images, refuse_unreadable
* `file_facts`: read_facts
* `findings`: Finding, file_findings, files_of, group_findings, imbalance_finding, ...
* `jpeg_damage`: looks_overwritten
* `near_duplicates`: NearPair, Thumbnails, groups_of, is_flat, near_matches, near_pairs, ...
* `remarks`: remarks_of
"""
