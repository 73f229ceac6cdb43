"""The command line. The only package that may import from all the others."""
