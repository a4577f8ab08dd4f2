"""TensorRT: engines built, keyed and cached, and the runner of them (optional).

* `build`: BuiltEngine, Profile, TensorFacts, build_engine
* `cache`: CachedEngine, EngineCache
* `cuda_memory`: Gpu, Mirror, find_gpu, open_mirror, open_stream, synchronize
* `key`: EngineKey
* `library`: EngineLibrary, EngineLog, find_engine_library, installed_engine_libraries, plain
* `tensorrt_runner`: TensorRTRunner, engine_key, open_tensorrt_runner
"""
