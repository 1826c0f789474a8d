"""The command. What it imports is kept out of here, as the processes that it starts import this file too."""

if __name__ == "__main__":
    from benchmarks.command import main

    main()
