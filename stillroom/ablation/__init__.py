"""What distillation and FixRes each bring: the same student with neither, either and both.

* `cells`: Arm, Trainings, cell_folder
* `facts`: ArmRow, Contrast, contrasts_of, read_rows, sentences_of
* `paired`: PairedDifference, mcnemar_p, mean_interval, paired_difference
* `stage`: build_ablation, run_ablation, table_of
"""
