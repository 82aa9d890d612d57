"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How long examples take says something of the machine, not of what is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
