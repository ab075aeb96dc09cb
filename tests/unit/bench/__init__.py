"""The bench's arithmetic and its workload."""
