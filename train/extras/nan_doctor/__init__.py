"""A step that was not finite, replayed: where the first NaN arose, and a bundle (optional).

* `bundle`: load_bundle, save_bundle
* `diagnosis`: Diagnosis, diagnose, diagnose_weights, explain, main
* `doctor`: NanDoctor
* `replay`: Call, Step, Trace, bad_tensor, is_finite, modules_in, replay, watched
"""
