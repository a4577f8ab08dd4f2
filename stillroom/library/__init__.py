"""What `import stillroom` gives: load, evaluate, open_run, and the values that they return.

* `accuracy`: Evaluation, evaluate
* `model`: Model, load
* `opened_run`: OpenedRun, StageSummary, open_run
* `rows`: ImagePrediction, LabelledPrediction, labelled
"""
