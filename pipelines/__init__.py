"""The verbs of Vector DERMS: rules are pure functions, flows wire them between topics and sinks."""
