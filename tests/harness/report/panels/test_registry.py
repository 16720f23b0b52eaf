import pkgutil

from lstm_harness.report import panels


def test_every_module_of_panels_is_shown():
    shown = {make.__module__.rpartition(".")[2] for make in (*panels.FIRST, *panels.FURTHER)}
    assert shown == {module.name for module in pkgutil.iter_modules(panels.__path__)}
