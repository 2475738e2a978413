"""Model architectures: one record each, in one table."""

from tasks.families.base import Family
from tasks.families.sdxl import SDXL
from tasks.families.stable_diffusion import SD2, SD15

FAMILIES = {family.name: family for family in (SD15, SD2, SDXL)}


def get_family(name: str) -> Family:
    """The family of that name; ValueError lists the choices."""
    if name not in FAMILIES:
        raise ValueError(
            f"`model.family` is {name!r}, which is no known family; "
            f"choose one of: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[name]
