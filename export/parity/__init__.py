"""The parity verdict: does a candidate predict what the reference predicts, on real images?

* `accuracy`: AccuracyChange, ClassChange, accuracy_change, calibration_error, softmax
* `batching`: batch_invariance, mixed_batch_logits
* `compare`: Flip, ModelOutputs, Verdict, compare_outputs, require_pass, snr_db, write_flips
* `failed_candidate`: FailedCandidate, SuspectResult, Triple
* `image_choice`: calibration_images, gate_images
* `image_set`: ImageSet, read_image_set
* `machine`: differences, machine_identity
* `predictions`: Flip, Verdict, agreement_lower_bound, compare_predictions, mcnemar_p, ...
* `reasons`: reasons_to_fail, why_not_shown
* `statistics`: agreement_lower_bound, holm, images_to_show, mcnemar_p, paired_interval
* `tolerances`: Precision, Tolerances
* `verdict`: Flip, Verdict, require_pass, write_flips
"""
