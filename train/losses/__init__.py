"""Objectives: a batch becomes one loss with named terms.

* `label_loss`: LabelLoss, build_label_loss, class_weights, cross_entropy, focal_loss
* `objective`: CrossEntropy, Objective, StepOutput, Supervised, Term, TrainingTask, ...
* `targets`: class_numbers, one_hot
"""
