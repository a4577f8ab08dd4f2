"""serve: an artifact becomes an HTTP service. Never imports torch, nor any other folder of ours."""
