"""Settings every test shares: one thread a process, bounded property tests."""

import os

# read by torch when a test imports it; the process that only hands out tests to others need not
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "house", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")
