"""The `derms` commands, one module a family; `gateway.cli` puts them together."""
