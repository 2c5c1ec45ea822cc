"""What even mathematics may use: specs, ranks, noise, frozen parts."""
