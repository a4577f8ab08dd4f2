"""The Open Inference Protocol, version 2: clients of KServe and Triton work (optional).

* `handlers`: infer, live, model_metadata, model_ready, ready, server
* `routes`: error_body, infer_operation, operation, schemas
* `tensors`: Inference, inference_of, response_of
"""
