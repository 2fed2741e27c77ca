"""The subcommands of `simai-rules`, one module each: HELP, add_arguments(parser) and run(args) -> exit code."""
