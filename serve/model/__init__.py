"""The served model of one worker: batcher, memory, golden check, predictions.

* `batcher`: Batcher, InferenceResult
* `golden_check`: GoldenCheck, GoldenImage, load_golden, replay_golden, warm_up
* `memory`: DecodeBudget, MemoryShare, memory_share, private_bytes
* `predictions`: Prediction, probabilities_from_logits, top_k_of, top_predictions
* `served_model`: ServedModel, open_served_model
"""
