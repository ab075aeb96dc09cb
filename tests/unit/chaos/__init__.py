"""The parts of the chaos campaign that are pure."""
