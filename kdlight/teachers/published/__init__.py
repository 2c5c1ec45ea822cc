"""Published image models out of the files in which their authors released them."""
