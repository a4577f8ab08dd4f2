"""`stillroom sweep learning-curve`: would more images help?

* `facts`: Curve, Level, Spread, read_curve
* `page`: draw_curve, render_curve
* `power_law`: PowerLaw, fit_power_law
* `run`: CurveRequest, draw_learning_curve, scaled
* `subsets`: subset
"""
