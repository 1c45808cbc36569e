"""The front door of Vector DERMS: OSCP endpoints, operators' API and pages, the `derms` command, the composition."""
