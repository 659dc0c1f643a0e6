"""Videos that no page may show: hidden, expired or denied to a country."""
