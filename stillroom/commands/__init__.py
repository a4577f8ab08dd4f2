"""The commands, by what they work on; `stillroom.command_table` lists them.

* `arguments`: FromOption, Overrides, Photos, RecipeOption, Run, RunOption, Served, Target, ...
* `building`: build_and_show, build_stages
* `stale`: say_if_stale
* `tables`: audit_table, fixres_not_kept, percent, status_table, students_table, ...
"""
