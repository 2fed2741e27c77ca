"""`simai-rules schema`: the JSON schema of config.yaml."""

import argparse
import json

HELP = """Print the JSON schema of config.yaml, with which an editor completes keys and marks mistakes.

  simai-rules schema > config.schema.json
and as the first line of config.yaml, for editors with the YAML language server:
  # yaml-language-server: $schema=config.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - as above
    """Print the schema."""
    from simai_rules.config.schema import experiment_schema

    print(json.dumps(experiment_schema(), indent=2))
    return 0
