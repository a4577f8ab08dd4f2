"""Files of reduced precision, fp16 and int8, behind the same gate (optional).

* `excluded_nodes`: always_float, float_outputs, guard_float, with_partners
* `fp16`: write_fp16
* `layer_sensitivity`: sensitivity_of_nodes
* `node_noise`: NodeNoise, noise_of_nodes, snr_of_sums
* `quantize`: Target, write_int8
* `search`: FileVerdict, Search, SearchTrial, search_int8
* `speedup`: Benefit, Timing, measure_benefit, measure_speedup
* `stage`: export_precision, write_precision
"""
