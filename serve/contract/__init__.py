"""The contract between training and serving: preprocessing, the artifact's files, the errors.

Everyone imports it, so it needs numpy and Pillow and nothing else. Read `preprocess.py` first.
"""
