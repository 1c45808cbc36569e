"""OSCP on the wire: one module a protocol version, and the one seam to neutral terms (`translate`)."""
