"""Charts as inline SVG: they take their colours from the page, so they follow its colour scheme."""
