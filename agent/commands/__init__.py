"""The commands of `penstock`, a module each: their options, and what they do."""
