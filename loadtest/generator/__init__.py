"""What sends it: Locust users, outcomes of requests, and what the generator itself manages."""
