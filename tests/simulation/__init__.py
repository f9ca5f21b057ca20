"""The production stages and roles in a simulated world: seeded, with faults, judged by an oracle of its own."""
