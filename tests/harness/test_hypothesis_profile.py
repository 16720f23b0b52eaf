"""An example that hypothesis draws may take as long as it takes: machines are slow, or busy."""

from hypothesis import HealthCheck, settings


def test_no_example_is_late():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
