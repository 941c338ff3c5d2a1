"""What the operating system gives: signals, files that survive, open folders, locks, the terminal."""
