"""How the services are deployed."""
