"""Labelled photos → a checkpoint. Needs the extra ``gendercls[train]``."""
