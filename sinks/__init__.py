"""The hands of Vector DERMS: everything that writes outside."""
