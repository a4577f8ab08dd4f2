"""Processes of the service: launch, supervisor, workers, drain.

* `cgroups`: memory_limit, oom_kills
* `drain`: Drain, Leaving
* `environment`: is_private, settle_home, switch_reports_off, user_folder
* `gpu_assignment`: keep_one_gpu, service_options
* `launch`: Running, running_process, running_server, serve_forever
* `lean_start`: lean_start
* `parent_death`: die_with_parent, parent_death_command, remove_lent_folders
* `ready_mark`: leave_ready_mark, was_ready
* `stderr_log`: log_to_stderr
* `supervisor`: CrashLoop, exposure, supervise_workers
* `uvicorn_protocol`: Connection, install_connection, response_bytes
* `worker`: FixedModel, ModelKeeper, ServiceWorker
"""
