"""What all pages share: format of numbers, thumbnails, templates, charts.

* `environment`: page_environment
* `format`: count, duration, interval, millions, ms, number, p_value, percent, points, ...
* `thumbnails`: Thumbnails, spread
"""
