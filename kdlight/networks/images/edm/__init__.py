"""The U-Nets of published image models, under the names that their files give to the weights."""
