"""Commands that make artifacts: export, import, mobile files, engines.

* `export`: export
* `export_run`: export_run
* `import_checkpoint`: ImportRequest, import_checkpoint
* `import_options`: refuse_mixed_export, refuse_mixed_parity
* `mobile`: write_mobile
* `model_options`: Crop, Filter, Labels, Mean, Size, Std, Strict, choice_of
* `parity`: parity
* `tensorrt`: build_engines
"""
