"""`stillroom sweep backbones`: architectures under one budget.

* `budget`: epochs_within, fitting_epochs
* `facts`: Backbone, Backbones
* `page`: draw_accuracy, render_backbones
* `run`: BackbonesRequest, compare_backbones
"""
