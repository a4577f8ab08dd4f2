"""Class folders and split folders: what a walk takes and passes over, and what names mean."""
