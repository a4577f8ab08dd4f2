"""What benchmarks/serve_throughput.py measures with, and the services it measures."""
