"""Throughput over the number of clients, and the law behind it (optional).

* `saturation`: describe_saturation, saturate
* `usl`: Usl, fit_usl
"""
