"""Who the user is: tokens, keys, and what is asked of them."""
