"""Photos → predictions with onnxruntime; never imports torch."""
