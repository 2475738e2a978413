"""The stages in the order in which they run. One line is all that a new stage needs here."""

from tasks.captions.stage import STAGE as CAPTIONS
from tasks.crops.stage import STAGE as CROPS
from tasks.encode.latents import STAGE as LATENTS
from tasks.encode.text import STAGE as TEXT
from tasks.masks.stage import STAGE as MASKS
from tasks.prompts.stage import STAGE as PROMPTS
from tasks.scan.stage import STAGE as SCAN

STAGES = (SCAN, PROMPTS, CROPS, CAPTIONS, MASKS, TEXT, LATENTS)
