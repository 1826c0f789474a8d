"""The whole job in one command: from a float model, images and a bound to the engine to deploy, and why."""
