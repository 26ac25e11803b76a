"""`pretext`, and `python -m pretext`.

Light, since every worker process that a command starts imports it again.
"""


def main() -> None:
    """Entry point of both."""
    from pretext.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
