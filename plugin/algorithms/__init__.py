"""The Processing algorithms, one form a file; each runs one command of geoi2i."""
