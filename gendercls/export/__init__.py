"""A checkpoint → one ONNX file with its contract, through a gate. Needs the extra ``gendercls[train]``."""
