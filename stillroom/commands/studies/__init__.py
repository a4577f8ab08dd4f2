"""Commands that compare many trainings: sweep, ablate.

* `ablate`: ablate
* `sweep`: show_verdict, sweep_app
"""
