"""HTTP: the guard, the routes, uploads, problems and the page."""
