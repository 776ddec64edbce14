"""At the aggregator: rounds on disk, strategies, the gate before a head is used."""
