"""The registry's folder: layout, documents, durable writes, publication, verification, recovery, erasure."""
