"""`stillroom sweep search`: the teacher's options that are best on val.

* `charts`: draw_history, draw_importances, draw_slice, legend_above, percent_axis
* `facts`: SearchResult, TrialRow
* `page`: render_search
* `points`: Point, check_space, grid_points, own_point, recipe_at, value_of
* `results`: write_search
* `run`: SearchRequest, search
* `space`: Choices, Range, Space, StudyOptions, Value, override_of, read_space
* `study`: Sampler, Study
"""
