"""The simulated feed that most tests learn from."""

from datetime import date

from retrain.importers.simulation import Simulation

SIMULATION = Simulation(users=400, videos=240, days=4, views=10, seed=5, last=date(2026, 3, 4))
