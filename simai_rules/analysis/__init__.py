"""From events to an answer: summary, statistics, figures and the report."""
