"""What a run gave → one self-contained HTML page. Needs numpy and Pillow alone."""
