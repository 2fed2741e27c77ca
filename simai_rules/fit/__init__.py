"""From the log of a real run to a component that spends its time the same way."""
