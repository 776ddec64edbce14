"""Small captures with the records they must give, worked out by hand and run through both meters."""
