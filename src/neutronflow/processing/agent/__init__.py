"""The post-processing agent: takes commands from the broker, runs steps, answers."""
