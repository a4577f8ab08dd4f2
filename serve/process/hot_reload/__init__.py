"""Another model without a pause, and back again (optional).

* `admin`: AdminSocket, ask_workers, control_folder, make_control_folder
* `artifact_copies`: ArtifactCopy, copies_of
* `reload`: ModelSlot
* `reloadable_model`: ReloadableModel
* `watch`: fingerprint_of, watch_artifact
"""
