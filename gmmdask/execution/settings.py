"""The `gmmdask` section of the Dask configuration; its defaults are in gmmdask.yaml."""

from pathlib import Path
from typing import Any

import yaml
from dask import config

DEFAULTS = yaml.safe_load((Path(__file__).parents[1] / "gmmdask.yaml").read_text())
config.update_defaults(DEFAULTS)


def setting(name: str) -> Any:
    """A value of the section, as the user's configuration, environment or the defaults have it."""
    return config.get(f"gmmdask.{name}")
