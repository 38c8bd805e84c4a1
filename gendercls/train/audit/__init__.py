"""What is wrong with labelled photos before a network is trained on them."""
