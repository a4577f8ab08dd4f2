"""WebDataset shards as a source of images (optional).

* `cache`: Fetched, discard, fetch, limit_bytes
* `download`: blocks_of
* `index`: ShardIndex, ShardSample, index_tar, read_index, write_index
* `members`: ByteLocation, location_of, read_member, sha256_of_member
* `patterns`: Shard, ShardPattern, list_shards
* `shard_images`: find_images_in_shards, index_folder, shard_names, shard_numbers, ...
* `source`: ShardSource
"""
