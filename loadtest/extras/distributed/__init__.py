"""One load by several generators: a master, its workers, their messages (optional).

* `master`: run_fleet
* `serialization`: message_from_plan, plan_from_message, report_from_message, row_from_sample, ...
* `worker`: main
* `worker_messages`: WorkerMessages
"""
