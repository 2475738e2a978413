"""The stages in their order: planned without Prefect, run as Prefect tasks."""
