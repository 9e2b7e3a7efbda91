"""Published models for bench/census.py, by what they are for. All weights that no package has are drawn."""
