"""Who gets which answer, and what of it is another tenant's: one deployment, some thousands of calls."""
