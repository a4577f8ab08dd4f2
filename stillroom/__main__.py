"""`python -m stillroom` is the console script."""

from stillroom.cli import main

if __name__ == "__main__":
    main()
