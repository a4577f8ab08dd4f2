"""What all pages share: format of numbers, thumbnails, templates, charts."""
