"""The only code that knows file names, schemas and column names."""
