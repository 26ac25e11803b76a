"""`python -m pretext` is `pretext`."""

from pretext.cli.app import main

if __name__ == "__main__":
    main()
