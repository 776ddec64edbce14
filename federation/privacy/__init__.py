"""What leaves a gateway of a delta: clipped, thinned, rounded."""
