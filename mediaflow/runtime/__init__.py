"""An instance without HTTP: sessions, their actors, slots and drain."""
