"""What no page may show: what is hidden, expired or denied to a country, followed and kept."""
