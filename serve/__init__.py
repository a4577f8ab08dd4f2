"""serve: an artifact becomes an HTTP service. Never imports torch, nor any other folder of ours.

Whatever of ours a process imports, this comes first: what holds for every process is settled here.
"""

import os

from serve.process.environment import settle_home, switch_reports_off

switch_reports_off(os.environ)
settle_home(os.environ)
