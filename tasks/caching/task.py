"""Cached: the state of a task run that found nothing to do, with the reason as its message."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed


def cached(message: str, data: Any) -> Any:
    """What a task returns that found nothing to do: its run is shown as Cached, with the reason."""
    return Completed(name="Cached", message=message, data=data)


def value(returned: Any) -> Any:
    """What a task gave: a task that returns a state hands the state through."""
    return returned.result() if isinstance(returned, State) else returned
