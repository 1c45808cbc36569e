"""Rules: pure functions and state machines over the nouns. No I/O, no engine."""
