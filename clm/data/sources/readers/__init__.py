"""What is in a file, by its bytes: compression, archives, encodings, and the kinds of text and tables in them."""
