"""Training by several processes: collectives, shared errors, averaged gradients (optional).

* `parallel`: build_forward, check_sync_bn, synchronised_twin
* `process_group`: ProcessGroup, is_shared, open_process_group
"""
