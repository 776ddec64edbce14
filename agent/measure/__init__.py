"""Parts of `penstock bench`: `timing` (calls), `device` (what ran them), `advice` (settings), `plot` (a picture)."""
