"""The training engine: trainer, step, loop, schedule, averages, resumed state, world.

* `callbacks`: Callback, OnEpoch, explain_nonfinite
* `loop`: Fitted, Phase, Scores, Validate, fit
* `plan`: PhaseOptions, phase_options
* `progress`: Steps, log_to_console, say, steps, track
* `resume_state`: ResumeState, load_state, save_state, saved_steps
* `schedule`: Plateau, Schedule, learning_rate
* `seed`: cudnn_mode, derive_seed, generator
* `signals`: StopFlag, stop_on_signal
* `step`: Part, StepResult, Stepper
* `throughput`: ThroughputMeter, peak_memory_mib, peak_rss_mib
* `trainer`: RunningSums, Trainer, Validate
* `weight_averaging`: Candidate, build_ema, build_swa, choose, measure_norms, norms_that_move
* `world`: Forward, World, current_world, shard_of_rank, single_process, use_world, ...
"""
