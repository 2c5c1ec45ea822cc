"""What is read and written: files, audio, pictures, tokens."""
