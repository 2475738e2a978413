"""The automations of a server: the one that crashes silent runs, and those that notify people.

`automations/*.yaml` notify through a block that holds the address TILEWRIGHT_NOTIFY_URL. They are
made without it too, switched off, and get the block when set_up is run with the address.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.schemas.automations import AutomationCore
from prefect.types import SecretDict

from flows.automations import crash_silent_runs

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

BLOCK = "tilewright-notify"
NO_BLOCK = UUID(int=0)
FOLDER = Path(__file__).resolve().parent / "automations"


def ensure_notifications(client: "SyncPrefectClient") -> Iterator[str]:
    """Makes the automations that are missing; says what was made and what was there."""
    block = _saved_block(os.environ.get("TILEWRIGHT_NOTIFY_URL"))
    yield _ensure(client, crash_silent_runs(), None)
    for file in sorted(FOLDER.glob("*.yaml")):
        yield _ensure(client, yaml.safe_load(file.read_text(encoding="utf-8")), block)


def _saved_block(url: str | None) -> UUID | None:
    """The block that posts `{"text": ...}`, as Slack, Mattermost, Teams and others take it."""
    if not url:
        return None
    block = CustomWebhookNotificationBlock(
        name=BLOCK,
        url="{{address}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"address": url}),  # such addresses are as good as a password
    )
    saved = block.save(BLOCK, overwrite=True)
    assert isinstance(saved, UUID)
    return saved


def _ensure(client: "SyncPrefectClient", wanted: dict[str, Any], block: UUID | None) -> str:
    name = wanted["name"]
    for there in client.read_automations_by_name(name):
        if block is not None and _waits_for_block(there):
            client.update_automation(there.id, _with_block(there, block))
            return f"automation {name}: was there, on now"
        return f"automation {name}: was there, {_switch(there)}"
    automation = AutomationCore.model_validate(wanted)
    if block is not None and _waits_for_block(automation):
        automation = _with_block(automation, block)
    client.create_automation(automation)
    return f"automation {name}: made, {_switch(automation)}"


def _waits_for_block(automation: AutomationCore) -> bool:
    return any(_block_of(action) == NO_BLOCK for action in automation.actions)


def _with_block(automation: AutomationCore, block: UUID) -> AutomationCore:
    """The automation, on, with the block in place of the missing one."""
    fields = automation.model_dump(exclude={"id", "owner_resource"})
    for action in fields["actions"]:
        if action.get("block_document_id") == NO_BLOCK:
            action["block_document_id"] = block
    return AutomationCore.model_validate(fields | {"enabled": True})


def _block_of(action: Any) -> UUID | None:
    found = getattr(action, "block_document_id", None)
    return UUID(str(found)) if found is not None else None


def _switch(automation: AutomationCore) -> str:
    return "on" if automation.enabled else "off"
