"""`stillroom sweep learning-curve`: would more images help?"""
