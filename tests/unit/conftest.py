"""How many examples the property-based tests try: `quick` unless `--hypothesis-profile thorough` is given."""

from hypothesis import HealthCheck, settings

_SLOW_BUT_WANTED = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("quick", max_examples=120, deadline=None, suppress_health_check=_SLOW_BUT_WANTED)
settings.register_profile("thorough", max_examples=2_000, deadline=None, suppress_health_check=_SLOW_BUT_WANTED)
settings.load_profile("quick")
