"""What a run leaves behind: its timed operations (events) and what it really ran on (capsules)."""
