"""What commands share towards a person: tables, progress, whole output files."""
