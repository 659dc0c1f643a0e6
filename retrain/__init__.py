"""The nightly job: parquet exports in, a published LightFM model out."""
