"""One program a file: input artifacts and a config in, output artifacts out. Stages meet in files, never in imports."""
