"""What leaves a gateway of a delta: clipped, thinned, rounded, and in mode `private` masked."""
