"""Networks, their files, and adapters for networks of other libraries."""
