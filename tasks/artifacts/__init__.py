"""What the Prefect UI shows of running work."""
