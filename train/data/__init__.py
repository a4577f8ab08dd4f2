"""Labelled images: where they come from, which split each is in, and the index of a run.

* `cache_folder`: FileKey, cache_folder
* `class_shares`: check_classes
* `convert`: Conversion, convert_folder
* `dataset`: Dataset
* `folder`: Listing, find_images, find_unlabelled, fingerprint, list_images, list_unlabelled, ...
* `image_bytes`: containers_of, read_bytes, sha256_of_member, warn_of_slow_reading
* `images`: LabelledImage, dataset_digest, labels_of, read_index, write_index
* `list_file`: ListedPhotos, list_files, read_list, read_split_lists
* `list_rows`: ListRow, read_rows
* `own_images`: is_refused_by_service, limits_of
* `source`: FileSource, OpenedSource, Origin, Source, name_of, open_source, origin_of, ...
* `split`: split_images, write_lists
* `unlabelled`: Unlabelled, open_unlabelled
"""
