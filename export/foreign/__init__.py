"""Models that were not trained here: timm checkpoints and ONNX files (optional).

* `label_file`: read_labels
* `label_forms`: LabelEntry, read_entries
* `label_lists`: entries_of, value_of
* `onnx_file`: InputLayout, OnnxClassifier, ends_in_softmax, layout_of
* `preprocess_choice`: PreprocessChoice, Triple, build_spec, parse_triple
* `stage`: export_imported, sample_images
* `timm_checkpoint`: load_imported
"""
