"""Optional parts of training: nothing here is loaded unless it is asked for.

* `bilinear`: BilinearClassifier, CompactBilinear, signed_sqrt, with_bilinear_head
* `center_loss`: CenterLoss, center_term
* `mlflow_run`: MlflowRun
* `profiler`: TrainingProfile, profile_training
* `step_choices`: Choice, advice, measure_choices
"""
