"""Evaluation for people: from predictions.csv to a page that says where a model errs, and why.

* `advice`: advise, headline, in_words, spread_of
* `by_prediction`: Exported, export_by_prediction, file_name, folder_names, ...
* `findings`: EvaluationResult, gather, metrics_of
* `label_issues`: LabelIssue, confident_classes, suspect_labels
* `measures`: ClassScore, Estimate, f1_estimate, macro_f1, overconfidence, proportion, ...
* `overlays`: Overlays, draw_overlays, overlay
* `page`: confused_classes, render_page
* `reading`: read_checked
* `source`: EvaluationSource, open_source
* `write`: write_evaluation
"""
