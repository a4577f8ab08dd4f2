"""`stillroom compress --search`: which student at which test size.

* `facts`: StudentResult, Students, read_students
* `page`: draw_front, render_students
* `pareto`: Bounds, Offer, dominates, front, pick
* `precision_cells`: Refused, precisions_of, reduce_cell
* `run`: StudentsRequest, choose_student, refuse_without_pick
* `student_cells`: SearchContext, Student, StudentTrial, distil_cell, tune_cell, write_cell
"""
