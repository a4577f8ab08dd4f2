"""What is sent when: plan, scenario, schedule, corpus, target, objective.

* `arguments`: add_interface, build_parser, check_doubling, fleet_from_options, ...
* `corpus`: CorpusImage, content_type_from_bytes, corpus_sha256, load_corpus
* `load_plan`: LoadPlan, base_url_from_text
* `reply`: ReplyModel, ReplyPrediction, Stages, prediction_from_body, stages_from_header
* `scenario`: read_recorded, scenario_times, segments_of
* `schedule`: Segment, even_counts, image_picks, poisson_counts, poisson_times, ...
* `slo`: Slo, slo_from_text
* `target`: Target, headers_from_texts, value_at
* `token`: auth_header
* `worker_fleet`: Fleet, address_from_text
"""
