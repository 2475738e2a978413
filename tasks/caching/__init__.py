"""How a task shows in Prefect that the store had everything."""
