"""The command line: parse, call one stage, print. No torch is imported before a stage runs."""
