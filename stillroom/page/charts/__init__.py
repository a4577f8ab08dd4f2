"""Charts as inline SVG: they take their colours from the page, so they follow its colour scheme.

* `confusion`: draw_confusion
* `drawing`: drawing, inline_svg, plain
* `svg`: svg, tag, text
* `whiskers`: draw_whisker, scale_from
"""
