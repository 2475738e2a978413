"""Task runners: where the partitions of a stage are worked on."""
