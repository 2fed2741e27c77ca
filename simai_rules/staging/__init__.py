"""Moving data between components: codec, client (DataStore), backends and their servers."""
