"""Logs and profiles as tables: for Parquet files and for SQL."""
