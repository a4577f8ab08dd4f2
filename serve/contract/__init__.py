"""The contract between training and serving: preprocessing, the artifact's files, the errors.

* `artifact`: Artifact, artifact_root, open_artifact
* `digest`: canonical_json, digest_of_json, sha256_of_bytes, sha256_of_file
* `errors`: ArtifactError, CheckpointError, DatasetError, EmptyImage, EngineError, GateError, ...
* `files`: fsync_folder, fsync_path
* `labels`: label_problem, look_alikes, refuse_twins, without_unseen
* `manifest`: damaged_files, read_manifest, write_manifest
* `preprocess`: DecodeLimits, PreprocessSpec, charge_of_file, crop_and_resize, decode, ...
* `reference`: stored_reference
* `shortage`: shortage_of
* `signals`: ending_signals
* `spec`: Interpolation, PreprocessSpec
"""
