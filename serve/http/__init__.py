"""HTTP: the guard, the routes, uploads, problems and the page.

* `about`: model, openapi, page
* `admission`: Costs, Headers, overloaded, timeout_ms_of
* `app`: App, AsgiSwitch, build_app
* `classify`: classify, classify_batch
* `exchange`: Exchange, exchange_of, fault_line, log_line, log_request, start_request_log
* `guard`: Guard, GuardLimits
* `handlers`: budget_ms_of, served_model, wait_or_disconnect, with_problems
* `message`: check_body_headers, check_message, check_request_line, check_token, too_large
* `openapi`: batch_operation, classify_operation, core_schemas, openapi_document
* `problems`: Problem, RequestError, problem_from, problem_of_status, without_frames
* `routes`: Route, RouteGroup, RouteTable, route_table
* `upload`: image_from_request, images_from_form
"""
