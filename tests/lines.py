"""Which line of transformer-lens is installed, and its backends; asking costs no import of it."""

from importlib.metadata import version

HOOKED_LINE = int(version("transformer-lens").split(".")[0]) < 4
BACKENDS = ["hooked", "bridge"] if HOOKED_LINE else ["bridge"]
