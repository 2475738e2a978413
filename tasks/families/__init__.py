"""Model architectures: one record each, in one table."""

from tasks.families.base import Family
from tasks.families.chroma import CHROMA
from tasks.families.flux import FLUX_DEV, FLUX_SCHNELL
from tasks.families.flux2 import FLUX2, FLUX2_KLEIN
from tasks.families.inpainting import SD15_INPAINT, SDXL_INPAINT
from tasks.families.pixart import PIXART_ALPHA, PIXART_SIGMA
from tasks.families.qwen_image import QWEN_IMAGE
from tasks.families.sana import SANA
from tasks.families.sd3 import SD3, SD35
from tasks.families.sdxl import SDXL
from tasks.families.stable_diffusion import SD2, SD15
from tasks.families.z_image import Z_IMAGE

FAMILIES = {
    family.name: family
    for family in (
        *(SD15, SD2, SDXL, SD3, SD35, FLUX_DEV, FLUX_SCHNELL, PIXART_ALPHA, PIXART_SIGMA, SANA),
        *(CHROMA, QWEN_IMAGE, Z_IMAGE, FLUX2, FLUX2_KLEIN, SD15_INPAINT, SDXL_INPAINT),
    )
}


def get_family(name: str) -> Family:
    """The family of that name; ValueError lists the choices."""
    if name not in FAMILIES:
        raise ValueError(
            f"`model.family` is {name!r}, which is no known family; "
            f"choose one of: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[name]
