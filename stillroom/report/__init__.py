"""The report of a run: one HTML file that needs nothing but a browser.

* `ablation_section`: ablation_section
* `audit_page`: Group, Kind, write_audit_page
* `comparison`: Comparison, compare, compare_all
* `data_section`: ClassRow, data_section
* `facts`: Facts, StageRecord, read_facts, read_flips
* `fixres_section`: fixres_section
* `load_section`: cores_of, load_section, stage_split
* `mistakes`: Bin, ConfusedPair, Mistake, confident_mistakes, confused_pairs, ...
* `model_sections`: mistakes_section, models_section, training_section
* `models`: Latency, ModelRow, Score, read_json, read_models
* `page`: write_report
* `paired`: Paired, pair, paired_interval
* `precision_section`: precision_section
* `proof_sections`: parity_section, provenance_section
* `verdict`: Badge, RunVerdict, State, badges_of, headline, judge_run, load_sentence, ...
"""
