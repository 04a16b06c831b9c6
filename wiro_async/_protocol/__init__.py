"""The service's protocol. Pure: data in, data or errors out."""
