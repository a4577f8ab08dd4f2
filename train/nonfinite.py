"""`python -m train.nonfinite BUNDLE`: replay a step that was not finite, and say why."""

from __future__ import annotations

import sys

from train.extras.nan_doctor.diagnosis import Diagnosis, diagnose, diagnose_weights, explain, main

__all__ = ["Diagnosis", "diagnose", "diagnose_weights", "explain", "main"]

if __name__ == "__main__":
    sys.exit(main())
