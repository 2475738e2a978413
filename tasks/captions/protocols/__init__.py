"""What caption servers speak: a table with one record per protocol."""

from tasks.captions.protocols.base import Protocol
from tasks.captions.protocols.ollama import OLLAMA
from tasks.captions.protocols.openai import OPENAI

PROTOCOLS: dict[str, Protocol] = {"ollama": OLLAMA, "openai": OPENAI}
