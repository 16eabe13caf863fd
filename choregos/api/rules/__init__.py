"""The decisions of the API server: pure functions of their arguments; clock readings and ids are handed in."""
