"""Commands around a service: build, predict, load test, admin."""
