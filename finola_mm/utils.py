"""The module in which MMEngine's hub looks for the function that registers a package's modules."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Do nothing: registries import what they need, configs import algorithms (``registry.py``)."""
