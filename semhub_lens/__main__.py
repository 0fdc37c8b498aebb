"""`python -m semhub_lens`: the command `semhub`."""

from semhub_lens.cli.main import main

if __name__ == "__main__":
    main()
