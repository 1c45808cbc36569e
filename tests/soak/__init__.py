"""Kills, stops and broker failures under load: what the soak series and the kill tests are made of.

`load` makes the readings, `running` the processes, `rows` reads what they wrote and compares; `python -m tests.soak` is
the series (`make soak`), `tests/integration/test_telemetry_kills.py` a short one. `lives` kills the processes of the front door
at every point of a partner's life (`make soak-lives`).
"""
