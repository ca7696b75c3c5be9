"""Where text comes from: files, tables, the Hub, the embedded corpus; each as documents, split in two."""
