"""The final benchmark table and the published baselines."""
