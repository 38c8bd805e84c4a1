"""``python -m gendercls``."""

from gendercls.cli import main

main()
