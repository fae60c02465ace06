"""What several test packages share: services, servers, pictures, messages."""
