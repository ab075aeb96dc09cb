"""Unit tests of what every HTTP door has in common."""
