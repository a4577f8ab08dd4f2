"""Evaluation for people: from predictions.csv to a page that says where a model errs, and why."""
