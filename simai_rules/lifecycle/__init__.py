"""The life of a run: its folder and lease, the staging server, the components, and the removal of all it made."""
