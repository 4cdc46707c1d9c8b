"""`python -m sparsearch`: the command line, where the script is not on the path."""

from sparsearch.cli import main

if __name__ == "__main__":
    main()
